"""The route /mcp: streamable HTTP without sessions, for callers with a key.

The service's guard checks host, origin and the size of the body before; the SDK's own checks of these stay off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.exceptions import HTTPException
from starlette.routing import Route

from deployments.server.access.caller import caller_of
from deployments.server.mcp.protocol import protocol_server
from deployments.server.middleware import LARGEST_BODY

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PATHS = ("/mcp", "/mcp/")
GUARDED = TransportSecuritySettings(enable_dns_rebinding_protection=False)


class Endpoint:
    """Answers at /mcp as an ASGI application: some answers are streams. ``path`` is what metrics and logs call it."""

    path = PATHS[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a message. Raises ``RequestError`` 401 without a key, whatever the method."""
        scope["route"] = self
        request = Request(scope, receive)
        await caller_of(request)
        if request.method != "POST":
            # A GET would open a stream for messages that this server never sends, and hold up a restart.
            raise HTTPException(405, "send messages with POST: this server has no sessions", {"allow": "POST"})
        manager: StreamableHTTPSessionManager = request.app.state.mcp
        await manager.handle_request(scope, receive, send)


def add_to(app: FastAPI) -> None:
    """Add the route. It takes messages only inside :func:`running`."""
    app.router.routes.extend(Route(path, Endpoint(), include_in_schema=False) for path in PATHS)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Take messages inside."""
    manager = StreamableHTTPSessionManager(
        protocol_server(), stateless=True, security_settings=GUARDED, max_request_body_size=LARGEST_BODY
    )
    app.state.mcp = manager
    async with manager.run():
        yield
