"""Who is refused before anything is answered, and what no request can do."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.support.proxy import Proxy


def test_a_name_that_points_here_gets_nothing(client: httpx.Client) -> None:
    answer = client.post("/search", json={"question": QUESTION}, headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")
    assert client.get("/health", headers={"host": "evil.example:80"}).status_code == 421
    assert client.get("/health", headers={"host": ""}).status_code == 421


def test_a_probe_may_ask_by_address(client: httpx.Client) -> None:
    """Kubernetes and Prometheus name a pod by its IP address."""
    for host in ("10.1.2.3:8000", "[fd00::3]:8000"):
        for path in ("/livez", "/readyz", "/metrics"):
            assert client.get(path, headers={"host": host}).status_code == 200
        assert client.post("/search", json={"question": QUESTION}, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_a_page_of_another_origin_gets_nothing(client: httpx.Client, origin: str) -> None:
    answer = client.post("/search", json={"question": QUESTION}, headers={"origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in answer.headers


def test_a_frame_of_a_chat_page_gets_what_a_passage_is_made_of_and_nothing_else(client: httpx.Client) -> None:
    """A browser gives the origin of a sandboxed frame as `null`."""
    framed = {"origin": "null"}
    assert client.get("/static/passage.css", headers=framed).status_code == 200
    url = client.post("/search", json={"question": QUESTION}).json()["hits"][0]["url"]
    assert client.get(url, headers=framed).status_code == 200
    assert client.get(url.replace("sig=", "sig=0"), headers=framed).status_code == 404
    for method, path in (
        ("GET", "/state"),
        ("GET", "/"),
        ("POST", "/static/passage.css"),
        ("POST", url),
        ("GET", "/x"),
    ):
        assert client.request(method, path, headers=framed).status_code == 403, (method, path)
    for path in ("/static/passage.css", url):
        assert client.get(path, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_page_of_its_own_is_let_through(client: httpx.Client, service: Service) -> None:
    assert client.get("/health", headers={"origin": service.url}).status_code == 200


def test_every_answer_has_an_id_and_says_what_browsers_may_do(client: httpx.Client) -> None:
    for path in ("/health", "/nowhere", "/metrics"):
        answer = client.get(path, headers={"x-request-id": "abcdefgh-1234"})
        assert answer.headers["x-request-id"] == "abcdefgh-1234"
        assert answer.headers["x-content-type-options"] == "nosniff"
    other = client.get("/health", headers={"x-request-id": "no\tid"})
    assert len(other.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body"), (b"{", "JSON"), (b"[]", "object"), (b'"text"', "object"), (b"\xff\xfe{}", ""),
        (b"{}", "question"), (b'{"question": 7}', "question"), (b'{"question": ""}', "question"),
        (b'{"question": "x", "topk": 3}', "topk"), (b'{"question": "x", "top_k": 0}', "top_k"),
        (b'{"question": "x", "top_k": 101}', "top_k"), (b'{"question": "x", "mode": "best"}', "mode"),
        (b'{"question": "   "}', "empty"), (b'{"question": "a\\u0007b"}', "control"),
        (b'{"question": "\\ud800"}', "unicode"), (b'{"question": "x", "filter": "key=("}', "filter"),
        (b'{"question": "x", "tenant": "acme"}', "tenant"), (b'{"question": "x", "session": "\\udc00"}', "session"),
        (json.dumps({"question": "x" * 10_001}).encode(), "question"),
        (b'{"question": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_by_what_is_wrong(client: httpx.Client, body: bytes, said: str) -> None:
    answer = client.post("/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_other_routes_and_methods_are_refused_in_the_envelope(client: httpx.Client) -> None:
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
    assert client.get("/search").status_code == 405
    assert client.get("/search").json()["error"]["code"] == "method_not_allowed"
    assert client.get("/v1/nowhere").json()["error"]["code"] == "unknown_route"
    missing = client.post("/search", json={"question": QUESTION, "pipeline": "nobody"})
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "pipeline")


def test_large_bodies_are_not_read(client: httpx.Client, service: Service) -> None:
    answer = client.post("/search", content=b"x" * (10 << 20))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

    def pieces() -> Any:
        for _ in range(40):
            yield b"x" * (64 << 10)

    with service.client() as other, suppress(httpx.WriteError):  # it may be hung up on before all was sent
        assert other.post("/search", content=pieces()).status_code == 413
    assert client.get("/health").status_code == 200


def raw(url: str, sent: bytes, wait: float = 5.0) -> bytes:
    """Send bytes as they are, and return what comes back until the other side has said all."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=wait) as connection:
        connection.sendall(sent)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except TimeoutError:
            pass
        return got


def test_what_is_no_http_is_refused(service: Service) -> None:
    assert b"400" in raw(service.url, b"\x16\x03\x01 this is no HTTP\r\n\r\n", 2).split(b"\r\n")[0]
    many = b"".join(b"x-%d: y\r\n" % n for n in range(10_000))
    status = raw(service.url, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n" + many + b"\r\n", 2).split(b"\r\n")[0]
    assert b" 431 " in status
    assert httpx.get(f"{service.url}/health").json() == {"status": "ok"}


def test_a_request_that_never_ends_keeps_nobody(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.server.middleware.BODY_SECONDS", 1.0)
    half = b"POST /search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    began = time.monotonic()
    assert b" 408 " in raw(service.url, half).split(b"\r\n")[0]
    assert time.monotonic() - began < 4


def test_a_milvus_that_hangs_stops_neither_others_nor_health(index: Index, milvus_lite: Any) -> None:
    proxy = Proxy(milvus_lite.url)
    slow = index.make(name="behind-a-proxy", milvus=proxy.url, milvus_seconds=4.0)
    with serving(index.name) as service, service.client() as client:
        body = {"question": QUESTION, "pipeline": slow}
        assert client.post("/search", json=body).status_code == 200
        proxy.swallow()
        waiting = [
            threading.Thread(target=lambda: httpx.post(f"{service.url}/search", json=body, timeout=90))
            for _ in range(40)
        ]
        for thread in waiting:
            thread.start()
        time.sleep(1)
        began = time.monotonic()
        assert client.get("/health").status_code == 200
        assert client.post("/search", json={"question": QUESTION}).status_code == 200
        assert time.monotonic() - began < 5
        ready = client.get("/ready")
        assert ready.status_code == 503
        parts = {part["name"]: part for part in ready.json()["parts"]}
        assert parts[f"{index.name}: index"]["ready"] is True
        assert parts[f"{slow}: index"]["ready"] is False
        proxy.close()
        for thread in waiting:
            thread.join(60)


def test_more_questions_than_can_wait_are_refused_at_once(
    index: Index, milvus_lite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.server.pipelines.WAITING", 4)
    proxy = Proxy(milvus_lite.url)
    slow = index.make(name="behind-another", milvus=proxy.url, milvus_seconds=4.0)
    with serving(index.name) as service:
        body = {"question": QUESTION, "pipeline": slow}
        assert httpx.post(f"{service.url}/search", json=body, timeout=60).status_code == 200
        proxy.swallow()
        threads = [
            threading.Thread(target=lambda: httpx.post(f"{service.url}/search", json=body, timeout=90))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        refused = httpx.post(f"{service.url}/search", json=body, timeout=10)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        proxy.close()
        for thread in threads:
            thread.join(60)


def test_ready_says_what_is_missing(service: Service, client: httpx.Client, index: Index) -> None:
    assert client.get("/readyz").json()["ready"] is True
    never = index.make(name="never-synced", alias="never_synced")
    refused = client.post("/search", json={"question": QUESTION, "pipeline": never})
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "part_refused")
    assert "lockstep sync" in refused.json()["error"]["message"]


def test_metrics_are_counted_without_what_was_asked(client: httpx.Client) -> None:
    client.post("/ask", json={"question": QUESTION})
    text = client.get("/metrics").text
    assert 'lockstep_answers_total{mode="extractive"' in text
    assert 'lockstep_http_request_seconds_count{route="/ask",status="200"}' in text
    assert "filter be replaced" not in text
