"""Carry the Model Context Protocol between stdin and stdout and a service's /mcp.

Each message finds the service anew: it may have been restarted, on another port, since the assistant was opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
)

from deployments.cli.remote import PATIENCE_SECONDS, Service
from deployments.server.mcp.about import about
from tasks.errors import LockstepError, TransientError

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    Context = ServerRequestContext[Any, Any]

T = TypeVar("T")
VERSION = "2026-07-28"
"""The protocol between this process and the service, whatever the assistant speaks: a request needs no handshake."""
WITH_PIPELINE = ("search", "ask")
TIMEOUT = httpx2.Timeout(10.0, read=PATIENCE_SECONDS)


class Bridge:
    """Forwards messages to the service that ``find`` returns. Questions that name no pipeline go to ``pipeline``."""

    def __init__(self, find: Callable[[], Service], pipeline: str) -> None:
        self._find, self._pipeline = find, pipeline

    async def serve(self) -> None:
        """Serve until stdin ends. Nothing but messages goes to stdout: other output goes to stderr meanwhile."""
        server: Server[Any] = Server(
            **about(),
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
        )
        async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as group:
            group.start_soon(self._find_early)
            await server.run(incoming, outgoing, server.create_initialization_options())

    async def _find_early(self) -> None:
        """Find the service before it is needed: one that has to be started loads for some seconds."""
        with suppress(Exception):  # whoever asks gets the error
            await anyio.to_thread.run_sync(self._find)

    async def forward(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Return what ``work`` returns, done with the service. Raises ``MCPError`` when the service does not answer."""
        url, refused = "the service", None
        try:
            service = await anyio.to_thread.run_sync(self._find)
            url = service.url
            headers = {"authorization": f"Bearer {service.key}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=TIMEOUT) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=VERSION) as client,
            ):
                try:
                    return await work(client)
                except MCPError as error:  # outside of the client it would come in a group
                    refused = error
        except LockstepError as error:
            raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error
        except Exception as error:
            unreachable = TransientError(f"Service: {url} does not answer. See `lockstep status` and its log.")
            raise MCPError(code=INTERNAL_ERROR, message=str(unreachable)) from error
        raise refused

    async def list_tools(self, _context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        """List the service's tools."""
        return await self.forward(lambda client: client.list_tools())

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool of the service. That it does not answer is a result, which the assistant can show."""
        given = {"pipeline": self._pipeline} if params.name in WITH_PIPELINE else {}
        arguments = {**given, **{name: value for name, value in (params.arguments or {}).items() if value is not None}}
        tell = context.session.report_progress
        try:
            return await self.forward(lambda client: client.call_tool(params.name, arguments, progress_callback=tell))
        except MCPError as error:
            return CallToolResult(content=[TextContent(type="text", text=error.error.message)], is_error=True)

    async def list_resources(self, _context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
        """List the service's resources."""
        return await self.forward(lambda client: client.list_resources())

    async def list_templates(
        self, _context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """List how the addresses of the service's resources are made."""
        return await self.forward(lambda client: client.list_resource_templates())

    async def read_resource(self, _context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Read a resource of the service."""
        return await self.forward(lambda client: client.read_resource(params.uri))
