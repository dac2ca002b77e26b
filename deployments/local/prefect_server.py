"""Run the embedded Prefect server behind a gate that refuses requests from other addresses and pages.

    python -m deployments.local.prefect_server PORT      on 127.0.0.1, with the PREFECT_* variables of a Prefect server

    Host not 127.0.0.1:PORT        403: another host name was made to point here (DNS rebinding)
    Origin not of this server      403, WebSockets too: CORS does not stop such requests, and does not cover WebSockets
    /lockstep/open#PASSWORD        stores the password where the UI looks for it, and opens the page of runs
    everything else                Prefect's own API, which requires the password, and its UI

A browser sends the part after # to no server and in no Referer, so the password appears in no log.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from deployments.endpoints import OPEN

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Both UIs of Prefect 3 keep the value of `Authorization: Basic` under `prefect-password`. Any page may link here with
# a wrong password, so the stored one is replaced only after the server has accepted the new one.
SCRIPT = """
const password = location.hash.slice(1);
history.replaceState(null, '', location.pathname);
fetch('/api/admin/version', {headers: {Authorization: 'Basic ' + password}}).then(answer => {
  if (!answer.ok) throw new Error();
  localStorage.setItem('prefect-password', password);
  location.replace('/runs');
}).catch(() => {
  document.body.textContent = 'This link is not, or no longer, valid: `lockstep status` prints the current one.';
});
"""
PAGE = f'<!doctype html><meta charset="utf-8"><title>Lockstep</title><body>Opening…<script>{SCRIPT}</script></body>'
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; script-src 'sha256-{_HASH}'; connect-src 'self'; frame-ancestors 'none'"


class Gate:
    """An ASGI application that passes on only requests to ``host`` that do not come from another page."""

    def __init__(self, app: App, host: str) -> None:
        self._app, self._host, self._origin = app, host, f"http://{host}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif reason := self._refusal(scope["headers"]):
            await _refuse(scope, send, reason)
        elif scope["type"] == "http" and scope["path"] == OPEN:
            headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": POLICY}
            await _answer(send, 200, PAGE, headers)
        else:
            await self._app(scope, receive, _unframed(send))

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> str:
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if hosts != [self._host]:
            return f"This server answers only at http://{self._host}"
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if any(origin != self._origin for origin in origins):
            return "This server does not answer pages of another address."
        return ""


def _unframed(send: Send) -> Send:
    """Return ``send`` with a header that stops other pages from framing this one and redirecting clicks."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-frame-options", b"DENY")]
        await send(message)

    return sending


async def _refuse(scope: Message, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
    else:
        await _answer(send, 403, reason, {"content-type": "text/plain; charset=utf-8"})


async def _answer(send: Send, status: int, body: str, headers: dict[str, str]) -> None:
    safe = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
    pairs = [(name.encode(), value.encode()) for name, value in {**safe, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body.encode()})


def main(port: int) -> None:
    """Serve until a signal arrives."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    uvicorn.run(
        Gate(create_app(final=True), f"127.0.0.1:{port}"),
        host="127.0.0.1",
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        log_level=server.logging_level.lower(),
        # The client's address comes from the connection, not from a header that anybody can send.
        proxy_headers=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
