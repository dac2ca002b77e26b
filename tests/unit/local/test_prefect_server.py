"""Who gets through the gate of the embedded Prefect server."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from deployments.endpoints import OPEN, opening
from deployments.local.prefect_server import Gate

HOST = "127.0.0.1:4242"
FOREIGN_HOSTS = ("evil.example", "evil.example:4242", "127.0.0.1", "127.0.0.1:4243", "localhost:4242", "")
FOREIGN_ORIGINS = (
    "https://evil.example", "http://evil.example:4242", "null", "http://127.0.0.1", "http://127.0.0.1:4243",
    "http://localhost:4242", "https://127.0.0.1:4242", "http://127.0.0.1:4242.evil.example", "",
)  # fmt: skip


async def secret(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("secret", headers={"access-control-allow-origin": "*"})


async def listens(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("secret")
    await socket.close()


@pytest.fixture
def client() -> TestClient:
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    app = Starlette(routes=[Route("/api/x", secret, methods=methods), WebSocketRoute("/api/events/in", listens)])
    return TestClient(Gate(app, HOST), base_url=f"http://{HOST}")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers", [*({"host": host} for host in FOREIGN_HOSTS), *({"origin": origin} for origin in FOREIGN_ORIGINS)]
)
def test_a_foreign_host_or_origin_gets_nothing(client: TestClient, method: str, headers: dict[str, str]) -> None:
    answer = client.request(method, "/api/x", headers=headers)
    assert answer.status_code == 403
    assert "secret" not in answer.text
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert client.request(method, OPEN, headers=headers).status_code == 403


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}])
def test_a_websocket_is_refused_as_well(client: TestClient, headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/events/in", headers=headers):
        pass


def test_its_own_page_and_programs_get_through(client: TestClient) -> None:
    for headers in ({}, {"origin": f"http://{HOST}"}):
        answer = client.post("/api/x", headers=headers)
        assert (answer.status_code, answer.text) == (200, "secret")
        assert answer.headers["x-frame-options"] == "DENY"
    with client.websocket_connect("/api/events/in", headers={"host": HOST}) as socket:
        assert socket.receive_text() == "secret"


def test_the_link_holds_the_password_where_no_server_sees_it(client: TestClient) -> None:
    link = opening(f"http://{HOST}", "lockstep:päss word")
    address, _, password = link.partition("#")
    assert base64.b64decode(password).decode() == "lockstep:päss word"
    assert address == f"http://{HOST}{OPEN}"
    page = client.get(address)
    assert page.status_code == 200
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
