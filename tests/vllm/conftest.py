"""The real vLLM over a tiny model of random weights: its words are noise, the server is what users have."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from prefect.settings import PREFECT_API_URL
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from tests.support.pipelines import pipeline_maker
from tests.support.servers import (
    ACCESS_KEY,
    ROOT,
    SECRET_KEY,
    Bucket,
    Server,
    free_port,
    missing,
    new_bucket,
    sqlite_url,
    tool,
)
from tests.support.warm_command import WarmCommand
from tests.vllm import tiny_model

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
API_KEY = "test-vllm-key"
SERVED = "tiny"
GUIDES = ("answers", "concepts", "guarantees", "operating", "retrieval")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for Prefect, the index and vLLM; another starts a vLLM of its own, twice."""
    for item in items:
        if item.path.parent.name == "vllm" and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


class VllmServer(Server):
    """vLLM, which serves the tiny model; clients go to ``base_url`` with ``API_KEY``. Its log stays in ``log``."""

    def __init__(self, folder: Path, *, slow: bool = False) -> None:
        if not (PYTHON.parent.parent / ".installed").exists():
            missing("vLLM", "run `make vllm-server`")
        port, model = free_port(), tiny_model.save(folder / "model", slow=slow)
        url = f"http://127.0.0.1:{port}"
        argv = [
            str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
            "--served-model-name", SERVED, "--max-model-len", str(tiny_model.CONTEXT), "--dtype", "float32",
            "--enforce-eager", "--host", "127.0.0.1", "--port", str(port), "--api-key", API_KEY,
        ]  # fmt: skip
        env = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")} | {
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CACHE_ROOT": str(folder / "cache"), "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CONFIG_ROOT": str(folder / "config"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1",
            # The engine takes every core otherwise, and the server, which streams what it writes, has none.
            "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }  # fmt: skip
        super().__init__(argv, folder / "vllm.log", self.health, url, seconds=300, env=env)
        self.base_url = f"{url}/v1"

    def health(self) -> None:
        urllib.request.urlopen(f"{self.url}/health", timeout=5).close()

    def chat_model(self, **options: Any) -> ChatModel:
        """Return a block for it; ``options`` are fields of the block. Without a model it takes the served one."""
        return ChatModel(**{"base_url": self.base_url, "api_key": SecretStr(API_KEY), "max_retries": 0, **options})

    def client(self) -> openai.OpenAI:
        return self.chat_model().get_client()

    def processes(self) -> list[psutil.Process]:
        """Return what runs of it: the server and its engine, which is a process of the same group."""
        found = []
        for process in psutil.process_iter(["status"]):
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if self.process and os.getpgid(process.pid) == self.process.pid:
                    found.append(process)
        return [one for one in found if one.info["status"] != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        super().kill()
        self._await_end()

    def stop(self) -> None:
        """Stop it, and what outlived it: an engine goes on when its server died alone."""
        super().stop()
        if self.process and self.processes():
            os.killpg(self.process.pid, signal.SIGKILL)
        self._await_end()

    def _await_end(self) -> None:
        deadline = time.monotonic() + 20
        while left := self.processes():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The server while it loads its model, which takes a minute: Prefect and the index are made meanwhile."""
    server = VllmServer(tmp_path_factory.mktemp("vllm"))
    server.begin()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def vllm(beginning: VllmServer) -> VllmServer:
    return beginning.ready()


class Library:
    """Documents that are indexed; every pipeline over them is a model, and settings, of its own."""

    def __init__(self, bucket: Bucket, ledger: str, make: Callable[..., str]) -> None:
        self.bucket, self.ledger, self._make = bucket, ledger, make

    def pipeline(self, chat_model: ChatModel | None = None, **settings: Any) -> str:
        """Save a pipeline and return its name.

        The model is asked whatever was found, and whatever was asked before: it is the one tried here. It draws its
        words, so that no two answers are the same by nature. Prompts are short: a processor reads them slowly.
        """
        name = f"library-{uuid.uuid4().hex[:8]}"
        usual = {"min_score": -1.0, "cache_seconds": 0.0, "temperature": 1.0, "context_tokens": 1024}
        return self._make(name=name, chat_model=chat_model, **{**usual, **settings})


@pytest.fixture(scope="session")
def make_library(
    beginning: VllmServer, prefect_api: None, s3_server: Server, milvus_lite: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sequence[Path]], Library]:  # fmt: skip
    """Index files in a bucket of their own."""
    from flows.sync import sync

    def make(paths: Sequence[Path]) -> Library:
        bucket = new_bucket(s3_server)
        for path in paths:
            bucket.put(f"guides/{path.name}", path.read_bytes())
        ledger = sqlite_url(tmp_path_factory.mktemp("ledger"))
        made = Library(bucket, ledger, pipeline_maker(bucket, s3_server.url, milvus_lite.url, ledger))
        sync(made.pipeline())
        return made

    return make


@pytest.fixture(scope="session")
def library(make_library: Callable[[Sequence[Path]], Library]) -> Library:
    """Five of the project's own guides, which are as many passages as a question is ever shown, and some."""
    return make_library([tiny_model.DOCS / f"{name}.md" for name in GUIDES])


@pytest.fixture(scope="session")
def name(library: Library, vllm: VllmServer) -> str:
    """A pipeline whose answers are structured, as they are by default."""
    return library.pipeline(vllm.chat_model())


@pytest.fixture(scope="session")
def questions() -> list[str]:
    lines = (tiny_model.DOCS / "golden.jsonl").read_text().splitlines()
    return [json.loads(line)["question"] for line in lines]


@dataclass(frozen=True)
class Exchange:
    """A request to the chat model as it went over the wire, and the reply; ``text`` is None when it was streamed."""

    sent: dict[str, Any]
    status: int
    text: str | None

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.sent["messages"])

    @property
    def passages(self) -> dict[int, str]:
        """The passages that the model was shown, by number: a line that says where, and the text."""
        found = re.findall(r'<(passage-[0-9a-f]{12}) n="(\d+)">\n(.*?)\n</\1>', self.prompt, re.DOTALL)
        return {int(n): text for _, n, text in found}

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer had to follow."""
        format_ = self.sent.get("response_format")
        return format_["json_schema"]["schema"] if format_ else None

    @property
    def reply(self) -> dict[str, Any]:
        return dict(json.loads(self.text or "{}"))

    @property
    def written(self) -> str:
        """What the model wrote; of an answer that was streamed nothing."""
        return str(self.reply["choices"][0]["message"]["content"]) if self.text else ""


class Exchanges(list[Exchange]):
    """What went between us and the chat model, in order."""

    def about(self, question: str) -> Sequence[Exchange]:
        return [one for one in self if question in one.prompt]


@pytest.fixture
def exchanges(vllm: VllmServer, monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    """What is exchanged with vLLM from now on."""
    return recorded(vllm, monkeypatch)


def recorded(vllm: VllmServer, monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    """Keep what is exchanged with vLLM, taken where the client sends it: whatever code stands before that."""
    kept, send = Exchanges(), openai.DefaultHttpxClient.send

    def recording(client: Any, request: Any, **options: Any) -> Any:
        response = send(client, request, **options)
        if str(request.url).startswith(f"{vllm.base_url}/chat/"):
            text = None if options.get("stream") else response.text
            kept.append(Exchange(json.loads(request.content), response.status_code, text))
        return response

    monkeypatch.setattr(openai.DefaultHttpxClient, "send", recording)
    return kept


class Command:
    """`lockstep` over an index with every part configured, as where Lockstep is but a guest.

    The pipeline that its variables describe is saved; others are named by ``--pipeline``.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        (folder / "lockstep").mkdir()
        own = {"HOME": str(folder), "LOCKSTEP_HOME": str(folder / "lockstep"), "PATH": os.environ["PATH"]}
        self.folder, self.variables = folder, own | variables
        self.warm = WarmCommand(self.variables)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [tool("lockstep"), *arguments], env=self.variables, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.warm.run(arguments, self.variables, self.folder)


@pytest.fixture(scope="session")
def command(
    library: Library, vllm: VllmServer, s3_server: Server, milvus_lite: Server, name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Command]:  # fmt: skip
    from tasks.pipelines import load_pipeline

    variables = {
        "AWS_ENDPOINT_URL": s3_server.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "BUCKET": library.bucket.name, "MILVUS_URI": milvus_lite.url, "COLLECTION_NAME": load_pipeline(name).alias,
        "LEDGER_URL": library.ledger, "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "VLLM_BASE_URL": vllm.base_url, "VLLM_API_KEY": API_KEY, "LOCKSTEP_MIN_SCORE": "-1",
        "LOCKSTEP_TEMPERATURE": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = Command(tmp_path_factory.mktemp("command"), variables)
    saved = command("sync")  # saves what the variables describe; it is in step already
    assert saved.returncode == 0, saved.stderr
    yield command
    command.warm.__exit__()
