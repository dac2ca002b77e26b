"""Questions while a part is killed, and while the service is stopped: each gets an answer or an error, and in time."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from blocks.chat_model import ChatModel
from flows.sync import sync
from tasks.ledger.database import Database
from tasks.ledger.tables import ANSWERS
from tasks.pipelines import load_pipeline
from tests.serve.conftest import LONGEST_SECONDS, PUMP, QUESTION, Index, Service, eventually, process, serving
from tests.support.chat_server import Say, StubChat, claims
from tests.support.pipelines import pipeline_maker
from tests.support.proxy import Proxy
from tests.support.servers import Server, milvus_lite_server, new_bucket, sqlite_url

CLIENTS = 20
GROUNDED = claims(("The filter is replaced every 400 hours.", [(1, "every 400 hours")]))


class Crowd:
    """Clients that ask without a pause, and what each of them was answered."""

    def __init__(self, service: Service, path: str, body: dict[str, Any]) -> None:
        self._service, self._path, self._body = service, path, body
        self._done = threading.Event()
        self.statuses: list[int] = []
        self.slowest = 0.0
        self.wrong: list[str] = []

    def __enter__(self) -> Crowd:
        self._pool = ThreadPoolExecutor(CLIENTS)
        for _ in range(CLIENTS):
            self._pool.submit(self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._pool.shutdown()

    def _ask(self) -> None:
        with self._service.client() as client:
            while not self._done.is_set():
                began = time.monotonic()
                try:
                    told = client.post(self._path, json=self._body)
                    self._note(told)
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                self.slowest = max(self.slowest, time.monotonic() - began)
                time.sleep(0.2)  # twenty that never pause leave two cores no time for the part that comes back

    def _note(self, told: httpx.Response) -> None:
        self.statuses.append(told.status_code)
        if told.status_code != 200 and not told.json()["error"]["message"]:
            self.wrong.append(told.text)

    def saw(self, status: int, count: int = CLIENTS) -> bool:
        """Wait until so many more answers had a status; return whether they came in time."""
        before, until = Counter(self.statuses)[status], time.monotonic() + LONGEST_SECONDS
        while Counter(self.statuses)[status] < before + count:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


@pytest.fixture
def own_milvus(tmp_path: Path) -> Iterator[Server]:
    server = milvus_lite_server(tmp_path).start()
    yield server
    server.stop()


def test_milvus_is_killed_and_comes_back(index: Index, s3_server: Server, own_milvus: Server, tmp_path: Path) -> None:
    bucket = new_bucket(s3_server)
    bucket.put("pump.md", PUMP)
    name = pipeline_maker(bucket, s3_server.url, own_milvus.url, sqlite_url(tmp_path))(milvus_seconds=4.0)
    sync(name)
    with serving(name) as service, Crowd(service, "/search", {"question": QUESTION}) as crowd:
        assert crowd.saw(200)
        own_milvus.kill()
        assert crowd.saw(503)
        assert httpx.get(f"{service.url}/health", timeout=5).status_code == 200
        assert httpx.get(f"{service.url}/ready", timeout=10).status_code == 503
        own_milvus.start()
        assert crowd.saw(200), Counter(crowd.statuses)
        assert httpx.get(f"{service.url}/ready", timeout=10).status_code == 200
    assert not crowd.wrong
    assert set(crowd.statuses) == {200, 503}
    assert crowd.slowest < LONGEST_SECONDS / 2


def test_the_ledger_goes_and_comes_back_and_no_record_is_lost(
    index: Index, s3_server: Server, milvus_lite: Server, postgres_url: str
) -> None:
    at = sa.make_url(postgres_url)
    proxy = Proxy(f"http://{at.host}:{at.port}")
    host, port = Proxy.address(proxy.url)
    ledger = at.set(host=host, port=port).render_as_string(hide_password=False)
    bucket = new_bucket(s3_server)
    bucket.put("pump.md", PUMP)
    name = pipeline_maker(bucket, s3_server.url, milvus_lite.url, ledger)(cache_seconds=0.0)
    sync(name)
    with serving(name) as service, Crowd(service, "/ask", {"question": QUESTION}) as crowd:
        assert crowd.saw(200)
        proxy.make("refuse")
        assert crowd.saw(200), "answers need no ledger"
        proxy.make("none")
        assert crowd.saw(200)
    assert not crowd.wrong
    assert set(crowd.statuses) == {200}
    with Database(load_pipeline(name).ledger) as opened, opened.transaction() as connection:
        recorded = connection.execute(sa.select(sa.func.count()).select_from(ANSWERS)).scalar()
    assert recorded == len(crowd.statuses)
    proxy.close()


@pytest.mark.parametrize("fallback", ["none", "extractive"])
def test_the_chat_model_goes_and_comes_back(index: Index, chat: StubChat, fallback: str) -> None:
    chat.replies = [(200, GROUNDED)]
    proxy = Proxy(chat.url)
    model = ChatModel(base_url=f"{proxy.url}/v1", max_retries=0)
    name = index.make(name=f"no-chat-{fallback}", chat_model=model, cache_seconds=0.0, fallback=fallback)
    with serving(name) as service, Crowd(service, "/ask", {"question": QUESTION}) as crowd:
        assert crowd.saw(200)
        proxy.make("refuse")
        if fallback == "none":
            assert crowd.saw(503)
        else:
            assert modes(service, "extractive")
        proxy.make("none")
        assert crowd.saw(200)
        assert modes(service, "generated")
    assert not crowd.wrong
    assert set(crowd.statuses) == ({200, 503} if fallback == "none" else {200})
    proxy.close()


def modes(service: Service, wanted: str) -> bool:
    """Wait until an answer is made so; return whether one was, in time."""
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        if httpx.post(f"{service.url}/ask", json={"question": QUESTION}, timeout=60).json().get("mode") == wanted:
            return True
    return False


def test_sigterm_in_mid_stream_ends_the_answer_first(with_chat: str, chat: StubChat, tmp_path: Path) -> None:
    text = claims(
        ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
        ("Only type K7 is used.", [(1, "Use filter type K7 only")]),
    )
    chat.replies = [(200, Say(text, between=0.05))]
    with process(with_chat, tmp_path) as (running, url):
        eventually(lambda: httpx.get(f"{url}/health"))
        body = {"question": QUESTION, "stream": True}
        names: list[str] = []
        with httpx.stream("POST", f"{url}/ask", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                    if names.count("claim") == 1 and names[-1] == "claim":
                        running.send_signal(signal.SIGTERM)
                elif line.startswith("data: ") and names[-1] == "answer":
                    assert len(json.loads(line.removeprefix("data: "))["claims"]) == 2
        assert names[-1] == "answer"
        assert names.count("claim") == 2
        assert running.wait(20) == -signal.SIGTERM or running.returncode == 0
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/health")
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
