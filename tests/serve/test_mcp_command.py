"""`lockstep mcp` as desktop assistants start it: a process that speaks on stdin and stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError

from deployments import state
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, serving
from tests.support.chat_server import Say, StubChat, claims
from tests.support.mcp_clients import ERAS
from tests.support.servers import ACCESS_KEY, ROOT, SECRET_KEY, Server

GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)


@pytest.fixture(scope="module")
def home(prefect_api: None, index: Index, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration that names the running parts."""
    from prefect.settings import PREFECT_API_URL

    folder = tmp_path_factory.mktemp("desktop")
    block = load_pipeline(index.name)
    ledger, bucket = block.ledger.url.get_secret_value(), block.source.endpoint_url
    lines = {
        "PREFECT_API_URL": PREFECT_API_URL.value(), "AWS_ENDPOINT_URL": bucket, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "BUCKET": index.bucket.name, "MILVUS_URI": milvus_lite.url,
        "LEDGER_URL": ledger,
    }  # fmt: skip
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return folder


@asynccontextmanager
async def desktop(home: Path, name: str, era: str) -> AsyncIterator[Client]:
    """Start the command as a desktop assistant does, which passes few variables on."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PREFECT_API_SSL_CERT_FILE")}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "deployments.cli.main", "mcp", "--pipeline", name], cwd=home,
        env={**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "LOCKSTEP_HOME": str(home / "lockstep")},
    )  # fmt: skip
    with open(home / "stderr", "w") as log:
        async with Client(stdio_client(command, errlog=log), mode=era) as client:
            yield client


def test_the_command_serves_a_desktop_assistant_by_itself(home: Path, index: Index) -> None:
    async def work() -> Any:
        async with desktop(home, index.name, "legacy") as client:
            listed = await client.list_tools()
            found = await client.call_tool("search", {"query": QUESTION, "top_k": 1})
            first = found.structured_content["results"][0]
            fetched = await client.call_tool("fetch", {"id": first["id"]})
            wrong = await client.call_tool("search", {"question": QUESTION})
            state = await client.read_resource(f"lockstep://pipelines/{index.name}")
            with pytest.raises(MCPError, match="there is no resource"):
                await client.read_resource("lockstep://nothing")
            return client.protocol_version, listed, first, fetched, wrong, state

    version, listed, first, fetched, wrong, state = anyio.run(work)
    assert version == ERAS["legacy"]
    assert [tool.name for tool in listed.tools] == ["search", "fetch", "ask"]
    assert first["key"] == "manuals/pump.md"
    assert first["url"].startswith("http://127.0.0.1:")
    assert "every 400 hours" in fetched.structured_content["text"]
    assert wrong.is_error
    assert json.loads(state.contents[0].text)["objects"] == 2
    assert "Traceback" not in (home / "stderr").read_text()


def test_the_command_bridges_to_the_service_wherever_it_runs_now(
    home: Path, index: Index, with_chat: str, chat: StubChat
) -> None:
    """The service is restarted on another port, and then away, while the assistant stays open: it answers by itself."""
    import psutil
    from prefect.settings import PREFECT_API_URL

    (home / "lockstep").mkdir(exist_ok=True)
    chat.replies = [(200, Say(GROUNDED))]
    own = psutil.Process()

    def record(url: str, key: str) -> None:
        service = state.Record(
            name="service", url=url, port=urlsplit(url).port, pid=own.pid, create_time=own.create_time(),
            prefect=str(PREFECT_API_URL.value()),
        )  # fmt: skip
        state.save(home / "lockstep", state.State(service_key=key).keeping(service))

    told: list[str] = []

    async def tell(_progress: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def work() -> Any:
        with serving(index.name, own_key="the first key", local=False) as first:
            record(first.url, "the first key")
            async with desktop(home, with_chat, "auto") as client:
                answer = await client.call_tool("ask", {"question": QUESTION}, progress_callback=tell)
                with anyio.move_on_after(10):  # the client hands progress on in tasks of their own, beside the result
                    while " ".join(told) != answer.structured_content["answer"]:
                        await anyio.sleep(0.02)
                with serving(index.name, own_key="the second key", local=False) as second:
                    record(second.url, "the second key")
                    found = await client.call_tool("search", {"query": QUESTION})
                    urls = first.url, second.url
                away = await client.call_tool("search", {"query": QUESTION})
                return client.protocol_version, answer, found, away, urls

    try:
        version, answer, found, away, (first, second) = anyio.run(work)
    finally:
        (home / "lockstep" / "state.json").unlink(missing_ok=True)
    assert version == ERAS["auto"]
    assert answer.structured_content["mode"] == "generated"
    assert " ".join(told) == answer.structured_content["answer"]
    assert answer.structured_content["citations"][0]["url"].startswith(f"{first}/passages/")
    assert found.structured_content["results"][0]["url"].startswith(f"{second}/passages/")
    url = away.structured_content["results"][0]["url"]
    assert not url.startswith((f"{first}/", f"{second}/")), "the command answers by itself"


def test_the_command_says_what_is_missing_and_leaves_stdout_alone(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", "mcp"], cwd=tmp_path, capture_output=True, text=True,
        env={**kept, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "Run `lockstep up` first" in done.stderr
