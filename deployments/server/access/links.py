"""Signed links to passages, which expire. A browser that opens a link has no key, so the link itself is the permission.

    /passages/CHUNK_ID?pipeline=P&tenant=T&at=44-59&until=1790000000&sig=…

``at`` is the quote's place in the chunk. The signature covers everything else, so nobody can turn a link into a link to
another passage, another tenant or a later day.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from fastapi import Request

LIFETIME_SECONDS = 7 * 86_400
"""A link works for a week: people come back to a chat on another day."""
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Passage:
    """What a link leads to: a chunk of a pipeline, and the quote's place in it (start, end), if any."""

    pipeline: str
    chunk_id: str
    tenant: str = ""
    span: tuple[int, int] | None = None


class Links:
    """Makes and checks links. Services that share ``secret`` accept each other's links."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"lockstep passages\0" + secret.encode()).digest()

    def path(self, passage: Passage) -> str:
        """Return the path and query of a link that works for :data:`LIFETIME_SECONDS`, up to an hour longer."""
        hours = -int(-(time.time() + LIFETIME_SECONDS) // HOUR)  # whole ones: links to a passage are equal for a while
        until = str(hours * HOUR)
        at = "{}-{}".format(*passage.span) if passage.span else ""
        where = {"pipeline": passage.pipeline, "tenant": passage.tenant, "at": at, "until": until}
        query = {**where, "sig": self._sign(passage.chunk_id, where)}
        given = {name: value for name, value in query.items() if value}
        return f"/passages/{quote(passage.chunk_id, safe='')}?{urlencode(given)}"

    def opened(self, chunk_id: str, pipeline: str, tenant: str, at: str, until: str, sig: str) -> Passage | None:
        """Return what a link leads to; None if the link was not made here, was changed, or has expired."""
        where = {"pipeline": pipeline, "tenant": tenant, "at": at, "until": until}
        if not hmac.compare_digest(self._sign(chunk_id, where).encode(), sig.encode("utf-8", "surrogatepass")):
            return None
        if int(until) < time.time():
            return None
        start, _, end = at.partition("-")
        return Passage(pipeline, chunk_id, tenant, (int(start), int(end)) if at else None)

    def _sign(self, chunk_id: str, where: dict[str, str]) -> str:
        text = "\0".join((chunk_id, *where.values()))
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


@dataclass(frozen=True, slots=True)
class PassageUrls:
    """Writes the absolute links of one answer: they lead to a pipeline, and show what a tenant may see."""

    links: Links
    base: str
    pipeline: str
    tenant: str

    def of(self, chunk_id: str, span: tuple[int, int] | None = None) -> str:
        """Return the link to a chunk, and to the quote at ``span`` in it; empty without a chunk."""
        if not chunk_id:
            return ""
        return self.base + self.links.path(Passage(self.pipeline, chunk_id, self.tenant, span))


def passage_urls(request: Request, pipeline: str, tenant: str) -> PassageUrls:
    """Return what writes the links of an answer. They begin with the public URL, or with the request's own address."""
    state = request.app.state
    base = str(state.public_url or request.base_url).rstrip("/")
    return PassageUrls(state.links, base, pipeline, tenant)
