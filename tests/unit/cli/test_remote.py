"""The command beside a running service: what it sends, what it makes of errors, and how little it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments import environment, state
from deployments.cli.remote import running_service
from deployments.state import Record, State
from tasks.errors import MisuseError, PartError
from tests.support.servers import free_port

HIT = {"key": "pump.md", "chunk_id": "c1", "score": 0.5, "text": "A pump.", "heading": "Pumps", "page": None}
FOUND: dict[str, Any] = {
    "collection": "docs_g0001", "hits": [{**HIT, "url": "http://127.0.0.1/passages/c1"}], "seconds": {"embed": 0.001},
    "notes": [],
}  # fmt: skip
ANSWERED: dict[str, Any] = {
    "id": "0" * 32, "answer": "Every 400 hours. [1]", "mode": "extractive", "collection": "docs_g0001",
    "flow_run_id": "", "seconds": {"total": 0.1}, "tokens": {}, "claims": [], "cached": False, "citations": [],
    "notes": [],
}  # fmt: skip
HEAVY = ("torch", "prefect", "pymilvus", "sentence_transformers", "sqlalchemy", "boto3", "httpx")


class Spoken(ThreadingHTTPServer):
    """A server that answers with what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.answer: tuple[int, str, str] = (200, "application/json", json.dumps(FOUND))
        super().__init__(("127.0.0.1", 0), Answerer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answerer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Spoken)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append((self.path, body, self.headers["authorization"]))
        status, kind, text = server.answer
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Spoken]:
    with Spoken() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def home(server: Spoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose state says that the server is its service, and this process the service's."""
    monkeypatch.setenv("LOCKSTEP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    me = psutil.Process()
    prefect = Record(name="prefect", url="http://127.0.0.1:4200/api")
    here = Record(
        name="service", url=server.url, port=server.server_port, pid=me.pid, create_time=me.create_time(),
        prefect=prefect.url,
    )  # fmt: skip
    state.save(tmp_path, State(service_key="the home's").keeping(prefect).keeping(here))
    return tmp_path


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and have it print at its end what it loaded of what is heavy."""
    code = (
        "import atexit, sys; from deployments.cli.main import main; "
        f"atexit.register(lambda: print('loaded', [one for one in {HEAVY} if one in sys.modules], file=sys.stderr)); "
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **variables}, capture_output=True, text=True,
        timeout=60, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip


def test_a_search_asks_the_service_and_loads_nothing_heavy(home: Path, server: Spoken) -> None:
    done = command(
        "search", "What is it?", "--top-k", "3", "--filter", "prefix=a/", "--json", COLLECTION_NAME="my_docs"
    )
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown == {"collection": "docs_g0001", "hits": [HIT], "seconds": {"embed": 0.001}}, "as without the service"
    assert done.stderr == "loaded []\n"
    path, body, sent = server.asked[0]
    assert (path, sent) == ("/search", "Bearer the home's")
    assert body == {"question": "What is it?", "pipeline": "my-docs", "top_k": 3, "filter": "prefix=a/"}


def test_an_answer_is_streamed_by_the_service_and_nothing_heavy_is_loaded(home: Path, server: Spoken) -> None:
    lines = [("claim", {"text": "Every 400 hours. [1]", "claims": []}), ("answer", ANSWERED)]
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in lines)
    server.answer = (200, "text/event-stream", text)
    done = command("ask", "How often?", "--stream", "--no-cache")
    assert done.returncode == 0
    assert done.stdout.startswith("Every 400 hours. [1]\n")
    assert done.stderr.endswith("loaded []\n")
    assert server.asked[0][1] == {"question": "How often?", "pipeline": "docs", "cache": False, "stream": True}


@pytest.mark.parametrize(
    ("status", "kind", "code"), [(404, "not_found_error", 2), (400, "invalid_request_error", 2), (503, "x", 1)]
)
def test_an_error_of_the_service_is_that_of_the_command(
    home: Path, server: Spoken, status: int, kind: str, code: int
) -> None:
    server.answer = (status, "application/json", json.dumps({"error": {"message": "no such thing", "type": kind}}))
    done = command("search", "What is it?")
    assert done.returncode == code
    assert "lockstep: no such thing" in done.stderr


def test_an_answer_that_breaks_off_or_is_none_is_said_so(home: Path, server: Spoken) -> None:
    server.answer = (200, "application/json", '{"collection": ')
    done = command("search", "What is it?")
    assert done.returncode == 1
    assert "its answer broke off" in done.stderr
    server.answer = (200, "text/event-stream", 'event: error\ndata: {"error": {"message": "gone", "type": "x"}}\n\n')
    service = running_service(environment.load())
    assert service
    with pytest.raises(PartError, match="gone"):
        list(service.events("/ask", {}))


@pytest.mark.parametrize("why", ["another Prefect", "ended", "never started", "does not listen"])
def test_only_the_homes_own_service_over_the_same_prefect_is_asked(
    home: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running_service(environment.load())
    if why == "another Prefect":
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    else:
        before = state.load(home)
        record = before.records["service"].model_copy(
            # While it starts or drains, somebody else may have its port.
            update={"port": free_port()} if why == "does not listen" else {"create_time": 1.0}
        )
        kept = {} if why == "never started" else {"service": record}
        state.save(home, before.model_copy(update={"records": {"prefect": before.records["prefect"], **kept}}))
    assert running_service(environment.load()) is None


def test_a_question_that_is_none_is_refused_before_anybody_is_asked(home: Path, server: Spoken) -> None:
    from deployments.cli.ask import ask

    with pytest.raises(MisuseError):
        ask("   ")
    assert server.asked == []
