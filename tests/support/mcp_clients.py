"""Clients of the Model Context Protocol, as assistants have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from deployments.server.access.links import Links, Passage

ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
"""The modes of a client, and the version of the protocol that each comes to."""
T = TypeVar("T")


@asynccontextmanager
async def connected(url: str, era: str = "auto", key: str = "") -> AsyncIterator[Client]:
    """Connect to the service at ``url``."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


def talk(url: str, work: Callable[[Client], Awaitable[T]], era: str = "auto", key: str = "") -> T:
    """Return what ``work`` returns, done with a client."""

    async def whole() -> T:
        async with connected(url, era, key) as client:
            return await work(client)

    return anyio.run(whole)


def call(url: str, tool: str, era: str = "auto", key: str = "", **arguments: Any) -> Any:
    """Call one tool."""
    return talk(url, lambda client: client.call_tool(tool, arguments), era, key)


def said(result: Any) -> str:
    """Return the text of a result."""
    (item,) = result.content
    return str(item.text)


def opened(service: Any, url: str) -> Passage | None:
    """Return what a link leads to, as the service reads it."""
    links: Links = service.app._app.state.links
    parts = urlsplit(url)
    given = dict.fromkeys(("pipeline", "tenant", "at", "until", "sig"), "") | dict(parse_qsl(parts.query))
    return links.opened(unquote(parts.path.removeprefix("/passages/")), **given)
