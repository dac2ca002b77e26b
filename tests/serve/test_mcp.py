"""The Model Context Protocol: both eras of clients list, search, fetch and ask, and see what their key sees."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

from deployments.server.links import Links, Passage
from tasks.ledger.database import Database
from tasks.ledger.keys import create_key
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.serve.test_history import rows
from tests.support.chat_server import Say, StubChat, claims
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Server, new_bucket, sqlite_url

ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
T = TypeVar("T")
GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def connected(url: str, era: str = "auto", key: str = "") -> AsyncIterator[Client]:
    """Connect as an assistant does."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        create_mcp_http_client(headers) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


def talk(url: str, work: Callable[[Client], Awaitable[T]], era: str = "auto", key: str = "") -> T:
    """Return what ``work`` returns, done with a client."""

    async def whole() -> T:
        async with connected(url, era, key) as client:
            return await work(client)

    return asyncio.run(whole())


def call(url: str, tool: str, era: str = "auto", key: str = "", **arguments: Any) -> Any:
    """Call one tool."""
    return talk(url, lambda client: client.call_tool(tool, arguments), era, key)


def said(result: Any) -> str:
    """Return the text of a result."""
    (item,) = result.content
    return str(item.text)


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
        return found, first, await client.call_tool("fetch", {"id": first["id"]})

    found, first, fetched = talk(service.url, work, era)
    assert json.loads(said(found)) == found.structured_content
    assert len(found.structured_content["results"]) == 2
    assert (first["key"], first["title"]) == ("manuals/pump.md", "manuals/pump.md › Pump manual › Maintenance")
    document = fetched.structured_content
    assert json.loads(said(fetched)) == document
    assert document.keys() == {"id", "title", "text", "url", "metadata"}
    assert (document["id"], document["title"]) == (first["id"], first["title"])
    assert "every 400 hours" in document["text"]
    assert document["metadata"]["key"] == "manuals/pump.md"
    for url in (first["url"], document["url"]):
        assert url.startswith(f"{service.url}/passages/")
        assert opened(service, url) == Passage(index.name, first["id"].split("/")[1])


def opened(service: Service, url: str) -> Passage | None:
    """Return what a link leads to, as the service reads it."""
    links: Links = service.app._app.state.links
    parts = urlsplit(url)
    given = {name: "" for name in ("pipeline", "tenant", "at", "until", "sig")} | dict(parse_qsl(parts.query))
    return links.opened(unquote(parts.path.removeprefix("/passages/")), **given)
