"""The Model Context Protocol: both eras of clients list, search, fetch and ask, and see what their key sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import httpx
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError

from deployments import state
from deployments.server.links import Links, Passage
from tasks.ledger.canary import Canary, begin_canary, end_canary
from tasks.ledger.database import Database, now
from tasks.ledger.keys import create_key
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.serve.test_history import rows
from tests.support.chat_server import Say, StubChat, claims
from tests.support.mcp_clients import ERAS, call, connected, said, talk
from tests.support.pipelines import pipeline_maker
from tests.support.servers import ACCESS_KEY, ROOT, SECRET_KEY, Server, new_bucket, sqlite_url

GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)
VAULT = "Which word opens the vault?"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(service: Service, url: str) -> Passage | None:
    """Return what a link leads to, as the service reads it."""
    links: Links = service.app._app.state.links
    parts = urlsplit(url)
    given = dict.fromkeys(("pipeline", "tenant", "at", "until", "sig"), "") | dict(parse_qsl(parts.query))
    return links.opened(unquote(parts.path.removeprefix("/passages/")), **given)


def test_both_eras_see_the_same_tools(service: Service, index: Index, era: str) -> None:
    async def work(client: Client) -> Any:
        return client.protocol_version, await client.list_tools(), client.instructions

    version, listed, instructions = talk(service.url, work, era)
    assert version == ERAS[era]
    assert "citations" in instructions
    tools = {tool.name: tool for tool in listed.tools}
    assert list(tools) == ["search", "fetch", "ask"]
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    assert tools["search"].input_schema["required"] == ["query"]
    assert tools["fetch"].input_schema["required"] == ["id"]
    assert index.name in tools["search"].input_schema["properties"]["pipeline"]["description"]


def test_a_search_leads_to_passages_and_their_links(service: Service, index: Index, era: str) -> None:
    async def work(client: Client) -> Any:
        found = await client.call_tool("search", {"query": QUESTION, "top_k": 2})
        first = found.structured_content["results"][0]
        bare = first["id"].split("/")[1]
        return found, [await client.call_tool("fetch", {"id": one}) for one in (first["id"], bare)]

    found, (fetched, by_chunk) = talk(service.url, work, era)
    assert json.loads(said(found)) == found.structured_content
    assert len(found.structured_content["results"]) == 2
    first = found.structured_content["results"][0]
    assert (first["key"], first["title"]) == ("manuals/pump.md", "manuals/pump.md › Pump manual › Maintenance")
    document = fetched.structured_content
    assert json.loads(said(fetched)) == document
    assert document.keys() == {"id", "title", "text", "url", "metadata"}
    assert (document["id"], document["title"]) == (first["id"], first["title"])
    assert "every 400 hours" in document["text"]
    assert document["metadata"]["key"] == "manuals/pump.md"
    assert by_chunk.structured_content["id"] == first["id"]
    for url in (first["url"], document["url"]):
        assert url.startswith(f"{service.url}/passages/")
        assert opened(service, url) == Passage(index.name, first["id"].split("/")[1])


def test_a_passage_comes_with_its_section(index: Index, service: Service) -> None:
    from flows.sync import sync

    sentences = [f"Step {n} of the long procedure is to turn the valve number {n} by hand." for n in range(60)]
    index.bucket.put("long.md", "# Procedure\n\n## Steps\n\n" + "\n\n".join(sentences) + "\n\n## Other\n\nNothing.\n")
    name = index.make(name="long-passages", alias="long_passages", chunk_tokens=64)
    try:
        sync(name)
        found = call(service.url, "search", query="Step 30 of the long procedure", pipeline=name, top_k=1)
        (first,) = found.structured_content["results"]
        text = call(service.url, "fetch", id=first["id"]).structured_content["text"]
        assert first["text"] in text
        assert len(text) > 5 * len(first["text"])
        assert "Nothing." not in text
        only_in_canary(service, name)
    finally:
        index.bucket.delete("long.md")


def only_in_canary(service: Service, name: str) -> None:
    """A passage that a generation in canary answered with is read there: the live one has no such chunk."""
    from flows.rebuild import rebuild

    block = load_pipeline(name)
    built = rebuild(name, block.settings.model_copy(update={"chunk_tokens": 200}), promote="manual")
    with Database(block.ledger) as ledger:
        begin_canary(ledger, Canary(block.alias, built.collection, str(built.before), (100,), 0, 3600.0, now()))
        try:
            found = call(service.url, "search", query="Step 30 of the long procedure", pipeline=name, top_k=1)
            document = call(service.url, "fetch", id=found.structured_content["results"][0]["id"])
        finally:
            end_canary(ledger, block.alias)
    assert found.structured_content["collection"] == built.collection
    assert not document.is_error, said(document)
    assert document.structured_content["metadata"]["collection"] == built.collection


def test_options_hold_as_on_the_other_routes(service: Service) -> None:
    found = call(service.url, "search", query=QUESTION, filter="key=cake.txt")
    assert {result["key"] for result in found.structured_content["results"]} == {"cake.txt"}
    none = call(service.url, "search", query=QUESTION, filter="key=nothing.txt")
    assert none.structured_content["results"] == []


def test_an_answer_has_claims_citations_and_links(service: Service, with_chat: str, chat: StubChat, era: str) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    told: list[str] = []

    async def work(client: Client) -> Any:
        async def tell(_progress: float, _total: float | None, message: str | None) -> None:
            told.append(message or "")

        arguments = {"question": QUESTION, "pipeline": with_chat}
        return await client.call_tool("ask", arguments, progress_callback=tell)

    result = talk(service.url, work, era)
    answer = result.structured_content
    assert json.loads(said(result)) == answer
    assert answer["mode"] == "generated"
    assert [claim["verified"] for claim in answer["claims"]] == [True, False]
    first = answer["citations"][0]
    assert (first["verified"], first["quote"]) == (True, "every 400 hours")
    assert opened(service, first["url"]) == Passage(with_chat, first["chunk_id"], "", tuple(first["span"]))
    assert first["id"] == f"{with_chat}/{first['chunk_id']}"
    assert " ".join(told) == answer["answer"], "the claims came as progress, while the answer was written"
    (row,) = rows(with_chat, lambda found: len(found) == 1)
    assert (row["id"], row["route"], row["mode"]) == (answer["id"], "/mcp", "generated")
    metrics = httpx.get(f"{service.url}/metrics").text
    assert f'lockstep_answers_total{{mode="generated",pipeline="{with_chat}"}} 1.0' in metrics
    assert 'lockstep_mcp_tool_seconds_count{outcome="ok",tool="ask"}' in metrics
    assert 'lockstep_http_request_seconds_count{route="/mcp",status="200"}' in metrics


def test_an_assistant_that_goes_away_ends_its_generation(
    service: Service, with_chat: str, chat: StubChat, era: str
) -> None:
    """The chat server notices: what it writes goes nowhere."""
    broke, began = threading.Event(), anyio.Event()
    words = claims(
        *((f"The filter is replaced every 400 hours, said {n} times.", [(1, "every 400 hours")]) for n in range(99))
    )
    chat.replies = [(200, Say(words, between=60 / (len(words) / 7)))]
    handle = chat.server.handle_error
    chat.server.handle_error = lambda *_: broke.set()  # type: ignore[method-assign]

    async def tell(*_: Any) -> None:
        began.set()

    async def leave() -> None:
        async with connected(service.url, era) as client, anyio.create_task_group() as group:
            arguments = {"question": QUESTION, "pipeline": with_chat}
            group.start_soon(lambda: client.call_tool("ask", arguments, progress_callback=tell))
            with anyio.fail_after(30):
                await began.wait()
            group.cancel_scope.cancel()

    try:
        anyio.run(leave)
        assert broke.wait(20), "the chat server goes on writing"
    finally:
        chat.server.handle_error = handle  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("search", {}, "the argument 'query' of search is wrong: Field required"),
        ("search", {"query": "x", "topk": 3}, "has no argument 'topk'. Its arguments are pipeline, top_k"),
        ("search", {"query": "x", "top_k": 0}, "the argument 'top_k' of search is wrong"),
        ("search", {"query": "   "}, "the question is empty"),
        ("search", {"query": "x", "filter": "key=("}, "filter"),
        ("search", {"query": "x", "pipeline": "nobody"}, "there is no pipeline 'nobody'"),
        ("search", {"query": "x", "tenant": "acme"}, "has no argument 'tenant'"),
        ("fetch", {"id": "nothing"}, "there is no passage 'nothing'"),
        ("fetch", {"id": 'a" or id != "'}, "there is no passage"),
        ("fetch", {"id": "nobody/1"}, "there is no pipeline 'nobody'"),
        ("ask", {"question": 7}, "the argument 'question' of ask is wrong"),
        ("destroy", {}, "there is no tool 'destroy'. The tools are search, fetch, ask."),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_result_with_a_sentence(
    service: Service, tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    result = call(service.url, tool, **arguments)
    assert result.is_error
    assert result.structured_content is None
    assert sentence in said(result)
    assert "Traceback" not in said(result)
    assert "pydantic" not in said(result)


def test_an_error_that_is_none_of_ours_is_told_without_its_words(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a secret of the inside")

    monkeypatch.setattr("deployments.server.mcp.tools.section_of", broken)
    result = call(service.url, "fetch", id="x")
    assert result.is_error
    assert said(result).startswith("unexpected: ValueError. The service's log has the trace under ")


def test_a_chat_model_that_fails_is_a_result_too(service: Service, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(401, {"error": {"message": "no"}})]
    result = call(service.url, "ask", question=QUESTION, pipeline=with_chat)
    assert result.is_error
    assert "VLLM_API_KEY" in said(result)


def test_resources_tell_the_state_of_a_pipeline(service: Service, index: Index, era: str) -> None:
    async def work(client: Client) -> Any:
        listed, templates = await client.list_resources(), await client.list_resource_templates()
        read = [await client.read_resource(f"lockstep://{end}") for end in (f"pipelines/{index.name}", "quarantine")]
        with pytest.raises(MCPError, match="there is no resource 'lockstep://nothing'"):
            await client.read_resource("lockstep://nothing")
        with pytest.raises(MCPError, match="there is no pipeline 'nobody'"):
            await client.read_resource("lockstep://pipelines/nobody")
        return {str(one.uri) for one in listed.resources}, templates, [json.loads(one.contents[0].text) for one in read]

    uris, templates, (state, quarantine) = talk(service.url, work, era)
    assert {"lockstep://quarantine", f"lockstep://pipelines/{index.name}/quarantine"} < uris
    assert [one.uri_template for one in templates.resource_templates] == [
        "lockstep://pipelines/{name}", "lockstep://pipelines/{name}/quarantine",
    ]  # fmt: skip
    with Store(load_pipeline(index.name).store, load_pipeline(index.name).alias) as store:
        assert state["generation"] == store.resolve()
    assert (state["pipeline"], state["objects"], state["quarantined"], state["waiting"]) == (index.name, 2, 0, 0)
    assert state["chunks"] >= 3
    assert state["last_change"] <= state["last_sync"]
    assert quarantine["quarantined"] == []


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_messages_are_posted_to_either_path(service: Service, path: str) -> None:
    with service.client() as client:
        assert client.post(path, json=PING, headers=ACCEPT).status_code == 200
        other = client.get(path, headers=ACCEPT)
        assert (other.status_code, other.headers["allow"]) == (405, "POST")
        foreign = client.post(path, json=PING, headers={**ACCEPT, "host": "evil.example"})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (421, "wrong_host")
        page = client.post(path, json=PING, headers={**ACCEPT, "origin": "http://evil.example"})
        assert page.status_code == 403
        assert client.post(path, content=b"x" * (2 << 20), headers=ACCEPT).status_code == 413
        assert client.post(path, content=b"{", headers=ACCEPT).status_code == 400


@dataclass(frozen=True)
class Tenants:
    """A service over an index of two tenants, and the text of each key."""

    service: Service
    name: str
    other: str
    acme: str
    globex: str
    narrow: str
    searcher: str
    everyone: str


@pytest.fixture(scope="module")
def tenants(
    prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tenants]:
    from flows.sync import sync

    bucket = new_bucket(s3_server)
    url = sqlite_url(tmp_path_factory.mktemp("ledger"))
    bucket.put("acme/manual.txt", "The filter of the pump of acme must be replaced every 400 hours.")
    bucket.put("globex/vault.txt", "The vault of globex opens with the word rosebud.")
    bucket.put("globex/broken.docx", b"this is no document")
    own = f"m{uuid.uuid4().hex[:8]}"
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, url)
    name = make(name=own, alias=own, tenants=True, min_score=-1.0, cache_seconds=0.0)
    sync(name)
    other = make(name=f"{own}-other", alias=own, tenants=True, min_score=-1.0)
    with Database(load_pipeline(name).ledger) as ledger:
        keys = {
            "acme": create_key(ledger, "acme's assistant", "acme")[1],
            "globex": create_key(ledger, "globex' assistant", "globex")[1],
            "narrow": create_key(ledger, "one pipeline", "acme", [other])[1],
            "searcher": create_key(ledger, "search only", "acme", rights=["search"])[1],
            "everyone": create_key(ledger, "no tenant")[1],
        }
        with serving(name) as service:
            yield Tenants(service, name, other, **keys)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("key", ["", "lsk_00000000_" + "a" * 43, "nonsense"])
def test_without_a_valid_key_nobody_is_answered(tenants: Tenants, method: str, key: str) -> None:
    headers = {**ACCEPT, **({"authorization": f"Bearer {key}"} if key else {})}
    for path in ("/mcp", "/mcp/"):
        answer = httpx.request(method, f"{tenants.service.url}{path}", content=json.dumps(PING), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="lockstep"'


def test_a_key_finds_what_is_its_tenants_and_nothing_of_anothers(tenants: Tenants, era: str) -> None:
    url = tenants.service.url
    own = call(url, "search", era, tenants.globex, query=VAULT)
    (result,) = own.structured_content["results"]
    assert "rosebud" in result["text"]
    assert opened(tenants.service, result["url"]) == Passage(tenants.name, result["id"].split("/")[1], "globex")
    assert "rosebud" in said(call(url, "fetch", era, tenants.globex, id=result["id"]))
    assert "rosebud" in said(call(url, "ask", era, tenants.globex, question=VAULT))

    unknown = call(url, "fetch", era, tenants.acme, id=f"{tenants.name}/{'0' * 32}")
    for wanted in (result["id"], result["id"].split("/")[1]):
        foreign = call(url, "fetch", era, tenants.acme, id=wanted)
        assert foreign.is_error
        assert said(foreign).replace(wanted, "") == said(unknown).replace(f"{tenants.name}/{'0' * 32}", "")
    for tool, question in (("search", "query"), ("ask", "question")):
        for filter_ in ("", "prefix=globex/", 'not key="x"'):
            text = said(call(url, tool, era, tenants.acme, **{question: VAULT, "filter": filter_}))
            for word in ("rosebud", "vault.txt", f"{tenants.name}/{result['id'].split('/')[1]}"):
                assert word not in text


def test_a_key_sees_the_state_of_its_tenant_alone(tenants: Tenants) -> None:
    async def work(client: Client) -> Any:
        read = [await client.read_resource(f"lockstep://{end}") for end in (f"pipelines/{tenants.name}", "quarantine")]
        return [json.loads(one.contents[0].text) for one in read]

    state, quarantine = talk(tenants.service.url, work, key=tenants.globex)
    assert (state["objects"], state["quarantined"]) == (1, 1)
    (row,) = quarantine["quarantined"]
    assert row["key"] == "globex/broken.docx"
    state, quarantine = talk(tenants.service.url, work, key=tenants.acme)
    assert (state["objects"], state["quarantined"], quarantine["quarantined"]) == (1, 0, [])


def test_a_key_without_a_tenant_sees_no_state_of_tenants(tenants: Tenants) -> None:
    async def work(client: Client) -> None:
        for end in (f"pipelines/{tenants.name}", "quarantine"):
            with pytest.raises(MCPError, match="have tenants"):
                await client.read_resource(f"lockstep://{end}")

    talk(tenants.service.url, work, key=tenants.everyone)


def test_rights_and_pipelines_are_those_of_the_key(tenants: Tenants) -> None:
    async def work(client: Client) -> Any:
        return await client.list_tools(), await client.list_resources()

    url = tenants.service.url
    tools, resources = talk(url, work, key=tenants.searcher)
    assert ([tool.name for tool in tools.tools], resources.resources) == (["search"], [])
    assert not call(url, "search", key=tenants.searcher, query=VAULT).is_error
    for tool, arguments in (("ask", {"question": VAULT}), ("fetch", {"id": "x"})):
        refused = call(url, tool, key=tenants.searcher, **arguments)
        assert refused.is_error
        assert "has not the right" in said(refused)

    tools, resources = talk(url, work, key=tenants.narrow)
    assert {str(one.uri) for one in resources.resources} == {
        "lockstep://quarantine", f"lockstep://pipelines/{tenants.other}",
        f"lockstep://pipelines/{tenants.other}/quarantine",
    }  # fmt: skip
    described = tools.tools[0].input_schema["properties"]["pipeline"]["description"]
    assert described == f"One of {tenants.other}. Left out: {tenants.other}."
    found = call(url, "search", key=tenants.narrow, query=VAULT)
    assert found.structured_content["pipeline"] == tenants.other
    refused = call(url, "search", key=tenants.narrow, query=VAULT, pipeline=tenants.name)
    missing = call(url, "search", key=tenants.narrow, query=VAULT, pipeline="nobody")
    assert said(refused).replace(tenants.name, "nobody") == said(missing)


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
    """The service is restarted on another port, and then away, while the assistant stays open."""
    import psutil
    from prefect.settings import PREFECT_API_URL

    (home / "lockstep").mkdir(exist_ok=True)
    chat.replies = [(200, Say(GROUNDED))]
    own = psutil.Process()

    def record(url: str, key: str) -> None:
        service = state.Record(
            name="service", url=url, pid=own.pid, create_time=own.create_time(), prefect=str(PREFECT_API_URL.value())
        )
        state.save(home / "lockstep", state.State(service_key=key).keeping(service))

    told: list[str] = []

    async def tell(_progress: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def work() -> Any:
        with serving(index.name, own_key="the first key", local=False) as first:
            record(first.url, "the first key")
            async with desktop(home, with_chat, "auto") as client:
                answer = await client.call_tool("ask", {"question": QUESTION}, progress_callback=tell)
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
    assert away.is_error
    assert said(away) == f"Service: {second} does not answer. See `lockstep status` and its log."


def test_the_command_says_what_is_missing_and_leaves_stdout_alone(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", "mcp"], cwd=tmp_path, capture_output=True, text=True,
        env={**kept, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "Run `lockstep up` first" in done.stderr
