"""Whether a Prefect is well is asked of it with what every Prefect serves, and with the credentials in force."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from pydantic import SecretStr

from deployments.endpoints import resolve
from deployments.environment import Environment
from deployments.local.health import check_prefect
from deployments.state import Record, State
from tasks.errors import PartError

RIGHT = f"Basic {base64.b64encode(b'user:right').decode()}"


class Elsewhere(BaseHTTPRequestHandler):
    """A Prefect that serves flows to those who may, its health to all, and nothing about its administration."""

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/api/health" else 404, b"true")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        may = self.headers["Authorization"] == RIGHT
        self.answer((200 if may else 401) if self.path == "/api/flows/filter" else 404, b"[]")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_the_password_goes_to_the_process_that_was_started_and_to_no_other(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user may listen where the embedded Prefect was, or is about to: a port is free for anybody."""
    heard: list[str | None] = []
    answer = Elsewhere.answer

    def hearing(self: Elsewhere, status: int, body: bytes) -> None:
        heard.append(self.headers["Authorization"])
        answer(self, status, body)

    monkeypatch.setattr(Elsewhere, "answer", hearing)
    state, port = State(prefect_auth="user:right"), urlsplit(url).port
    env = Environment(home=tmp_path)

    def asked(process: psutil.Process | None) -> str:
        known = {"pid": process.pid, "create_time": process.create_time()} if process else {}
        recorded = state.keeping(Record(name="prefect", url=url, port=port, **known))
        return check_prefect(resolve(env, recorded), recorded)

    with pytest.raises(PartError, match="its process is gone"):
        asked(None)
    with psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as importing:
        with pytest.raises(PartError, match="does not listen"):
            asked(importing)
        importing.kill()
    assert heard == []
    assert asked(psutil.Process()).startswith("UI at ")
    assert RIGHT in heard


def test_a_prefect_elsewhere_is_well_for_those_whom_it_lets_in(url: str, tmp_path: Path) -> None:
    def asked(password: str) -> str:
        auth = SecretStr(f"user:{password}")
        env = Environment(home=tmp_path, prefect_api_url=url, prefect_api_auth_string=auth)
        return check_prefect(resolve(env, State()), State())

    assert asked("right").startswith("UI at http://127.0.0.1:")
    with pytest.raises(PartError, match="HTTP 401"):
        asked("wrong")
