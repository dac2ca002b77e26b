"""The service over real parts, in a thread of this process; the chat model is one that says what a test tells it to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from deployments.server.app import create_app
from tests.support.chat_server import StubChat
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, free_port, new_bucket, sqlite_url

PUMP = """# Pump manual

## Starting

To start the pump, open the inlet valve and press the green button for three seconds.

## Maintenance

The filter of the pump must be replaced every 400 hours of operation. Use filter type K7 only.
"""
CAKE = "Mix flour, sugar and eggs, and bake the cake for forty minutes at 180 degrees."
LONGEST_SECONDS = 60.0
QUESTION = "How often must the pump's filter be replaced?"


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    app: Any

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60, **options)


@dataclass(frozen=True)
class Index:
    """A bucket that is indexed, and what saves further pipelines over the same index."""

    make: Callable[..., str]
    bucket: Bucket
    name: str


@pytest.fixture(scope="session")
def index(prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory) -> Index:
    from flows.sync import sync

    bucket = new_bucket(s3_server)
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, sqlite_url(tmp_path_factory.mktemp("ledger")))
    bucket.put("manuals/pump.md", PUMP)
    bucket.put("cake.txt", CAKE)
    name = make()
    sync(name)
    return Index(make, bucket, name)


@contextmanager
def serving(default: str, **options: Any) -> Iterator[Service]:
    """Run a service until the test ends."""
    app, port = create_app(default, **options), free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        assert thread.is_alive()
        time.sleep(0.02)
    yield Service(f"http://127.0.0.1:{port}", app)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive(), "the service did not end"


@contextmanager
def process(default: str, home: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the service as `lockstep up` does: as a process of its own."""
    from prefect.settings import PREFECT_API_URL

    port = free_port()
    own = {"LOCKSTEP_HOME": str(home), "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    argv = [sys.executable, "-m", "deployments.server.run", str(port), default]
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(argv, env={**os.environ, **own, **variables}, stdout=log, stderr=log)
        try:
            yield running, f"http://127.0.0.1:{port}"
        finally:
            running.kill()
            running.wait()


def eventually(answers: Callable[[], Any]) -> None:
    until = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            answers()
            return
        except httpx.HTTPError:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture(scope="session")
def service(index: Index) -> Iterator[Service]:
    with serving(index.name) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def chat() -> Iterator[StubChat]:
    chat = StubChat()
    yield chat
    chat.close()


@pytest.fixture
def with_chat(index: Index, chat: StubChat, request: pytest.FixtureRequest) -> str:
    """A pipeline over the same index that has a chat model; nothing is cached."""
    from blocks.chat_model import ChatModel

    name = f"chat-{abs(hash(request.node.nodeid)) % 10**9}"
    model = ChatModel(base_url=chat.url, max_retries=0)
    return index.make(name=name, chat_model=model, cache_seconds=0.0, min_score=-1.0)
