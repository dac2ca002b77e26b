"""What stands before every route: who may call, how large a body may be, and what each answer says of itself."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from deployments.server.errors import RequestError, envelope, headers_of
from tasks import metrics, traces
from tasks.errors import StoppedError

if TYPE_CHECKING:
    from starlette.requests import Request

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

T = TypeVar("T")

LARGEST_BODY = 1 << 20
"""Bytes of a request's body."""
MOST_HEADERS = 200
BODY_SECONDS = 30.0
"""How long a body may take to come."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ID = re.compile(r"[\w-]{8,64}")
SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
FRAMED = ("/passages/", "/static/")
"""What a passage is made of. In a chat page's sandboxed frame, a browser asks for its styles and its picture under the
origin `null`. The files are no secret, and the picture has a signed link."""
SILENT = {"/health", "/livez", "/readyz", "/ready", "/metrics"}
"""Routes that probes ask all the time: they stand in no log. Kubernetes and Prometheus ask them by a pod's IP address,
which nobody can allow beforehand. No page can make a browser do that under a name of its own."""

logger = logging.getLogger(__name__)


def request_id(request: Request) -> str:
    """Return the id of a request: the caller's, if it is one, else ours."""
    found: str = request.scope["state"]["request_id"]
    return found


async def until_gone(request: Request, work: Awaitable[T]) -> T:
    """Return what ``work`` comes to. Raises ``StoppedError`` when the client has gone before."""

    async def gone() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.1)

    task, leaving = asyncio.ensure_future(work), asyncio.create_task(gone())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError("whoever asked has gone")
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()


class Guard:
    """An ASGI application around another one: it refuses what is not meant for it, and names each request.

    ``hosts`` are the names under which the service may be called, in lower case, without a port. A page of another
    origin is refused, whatever it asks: a page that a person has open must not command a service on loopback.
    """

    def __init__(self, app: App, hosts: frozenset[str], draining: Callable[[], bool]) -> None:
        self._app, self._hosts, self._draining = app, hosts, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        about = given if ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = about
        told = Told(scope, send, about)
        if scope["path"] in SILENT:
            await self._answer(scope, receive, headers, told)
            return
        named = {name.decode("latin-1"): value for name, value in headers.items()}
        with traces.request(scope["method"], named) as span:
            try:
                await self._answer(scope, receive, headers, told)
            finally:
                traces.responded(span, scope["method"], told.route, told.status)

    async def _answer(self, scope: Scope, receive: Receive, headers: dict[bytes, str], told: Told) -> None:
        try:
            if refused := self._refused(headers, scope["method"], scope["path"]):
                await told.refuse(*refused)
            else:
                await self._app(scope, await read(receive, headers), told.send)
        except RequestError as error:
            await told.refuse(error.status, error.code, str(error))
        except StoppedError:
            pass  # nobody is there to be told
        finally:
            told.note()

    def _refused(self, headers: dict[bytes, str], method: str, path: str) -> tuple[int, str, str] | None:
        if len(headers) > MOST_HEADERS:
            return 431, "too_many_headers", f"the request has more than {MOST_HEADERS} headers"
        host = urlsplit(f"//{headers.get(b'host', '')}")
        try:
            name = (host.hostname or "").lower()
        except ValueError:
            name = ""
        if name not in self._hosts and not (path in SILENT and is_ip(name)):
            return 421, "wrong_host", f"this service does not answer as '{name[:100]}'"
        origin = headers.get(b"origin")
        framed = origin == "null" and method in ("GET", "HEAD") and path.startswith(FRAMED)
        if origin is not None and not framed and urlsplit(origin).netloc.lower() != headers.get(b"host", "").lower():
            return 403, "foreign_origin", "a page of another origin may not call this service"
        if self._draining() and path not in SILENT:
            return 503, "draining", "the service is stopping; ask another one, or again in a moment"
        return None


def is_ip(name: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def read(receive: Receive, headers: dict[bytes, str]) -> Receive:
    """Read a body to its end, and return what hands it on.

    Raises ``RequestError`` when it has too many bytes, or does not come.
    """
    length = headers.get(b"content-length", "0")
    body, more = bytearray(), not (length.isdecimal() and int(length[:20]) > LARGEST_BODY)
    if not more:
        raise RequestError(f"the body has more than {LARGEST_BODY:,} bytes", 413, "body_too_large")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise StoppedError("whoever asked has gone before the end of the request")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > LARGEST_BODY:
                    raise RequestError(f"the body has more than {LARGEST_BODY:,} bytes", 413, "body_too_large")
    except TimeoutError:
        raise RequestError(f"the body did not come within {BODY_SECONDS:g} seconds", 408, "body_too_slow") from None
    given = False

    async def hand_on() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return hand_on


class Told:
    """What an answer says of itself, and what is noted of it."""

    def __init__(self, scope: Scope, send: Send, about: str) -> None:
        self._scope, self._send, self._about = scope, send, about
        self._since, self.status = time.monotonic(), 0
        """The status of the answer, 0 until it is begun."""

    @property
    def begun(self) -> bool:
        """Whether the answer was begun."""
        return self.status > 0

    @property
    def route(self) -> str:
        """The route that the request took, with the names of its parameters; `none` without one."""
        found: str = getattr(self._scope.get("route"), "path", "none")
        return found

    async def send(self, message: Message) -> None:
        """Send a message, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {b"x-request-id": self._about.encode(), **SAFE}
            state = self._scope.get("state", {})
            own |= {name.encode(): value.encode() for name, value in state.get("headers", {}).items()}
            given = {name for name, _ in message.get("headers", [])}
            more = [(name, value) for name, value in own.items() if name not in given]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await self._send(message)

    async def refuse(self, status: int, code: str, message: str) -> None:
        """Answer with an error, unless an answer was begun."""
        if self.begun:
            return
        metrics.REJECTED.labels(code).inc()
        body = json.dumps(envelope(status, code, message, self._about)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # What is left of a body that was not read would be taken for the next request.
        headers += [(b"connection", b"close")] if status in (408, 413, 431, 503) else []
        headers += [(name.encode(), value.encode()) for name, value in headers_of(status).items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def note(self) -> None:
        """Count the answer, and write a line of it into the log: never what was asked."""
        seconds = time.monotonic() - self._since
        route = self.route
        metrics.HTTP_SECONDS.labels(route, str(self.status)).observe(seconds)
        if route not in SILENT:
            method, status = self._scope["method"], self.status or 499
            logger.info("%s %s %s %.1f ms %s", method, route, status, 1000 * seconds, self._about)
