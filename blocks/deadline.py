"""Apply a request's read timeout to the whole response: otherwise each byte that trickles in restarts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

BEGAN = "lockstep.began"


class Timed(httpx2.SyncByteStream):
    """The bytes of a response, as long as there is time left."""

    def __init__(self, stream: httpx2.SyncByteStream, until: float) -> None:
        self._stream, self._until = stream, until

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes. Raises ``httpx2.ReadTimeout`` if they have not all arrived in time."""
        for piece in self._stream:
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the response was not complete in time")
            yield piece

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()


def _begin(request: httpx2.Request) -> None:
    request.extensions[BEGAN] = time.monotonic()


def _limit(response: httpx2.Response) -> None:
    extensions = response.request.extensions
    seconds = extensions.get("timeout", {}).get("read")
    if seconds is not None and isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = Timed(response.stream, extensions[BEGAN] + seconds)


def in_time() -> dict[str, list[Callable[..., Any]]]:
    """Return the event hooks of an httpx2 client that apply each request's read timeout to the whole response.

    The hooks check the time whenever bytes arrive. Between two of them httpx2's own timeout counts. So a response takes
    at most twice the timeout.
    """
    return {"request": [_begin], "response": [_limit]}
