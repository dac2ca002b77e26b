"""The Model Context Protocol: both eras of clients list, search, fetch and ask."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from deployments.server.access.links import Passage
from tasks.ledger.canary import Canary, begin_canary, end_canary
from tasks.ledger.database import Database, now
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service
from tests.serve.test_history import rows
from tests.support.chat_server import Say, StubChat, claims
from tests.support.mcp_clients import ERAS, call, connected, opened, said, talk

GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(state["synced_at"]) < timedelta(hours=1)
    with service.client() as client:
        shown = client.get("/state").json()
    assert {**state, "age_seconds": 0} == {**shown, "age_seconds": 0}
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
