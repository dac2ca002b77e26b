"""Passages: what a signed link leads to, in its context, with the quote marked; of a PDF also a picture of its page.

A link that was changed, has expired, is of another tenant, or whose chunk is gone gets one and the same answer.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from deployments.server.access.links import Links, Passage
from deployments.server.errors import RequestError, headers_of, told
from deployments.server.native import REFUSALS, Known
from deployments.server.page.templates import TEXT, page
from tasks.bucket.fetch import fetch, head
from tasks.documents.page_image import draw
from tasks.errors import LockstepError, MisuseError, PermanentError
from tasks.ledger.quarantine import outdated
from tasks.retrieval.routing import Attempt, Index
from tasks.retrieval.scope import Scope

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.pipelines import Pipelines
    from tasks.models import Hit
    from tasks.retrieval.routing import Connections

router = APIRouter(prefix="/passages", tags=["passages"])
REACH = 2
"""Chunks shown before and after a passage."""
DRAWN_AT_ONCE, MOST_WAITING = 2, 32
GONE = "This link has expired, or what it led to is no longer in the index. Ask again to get a new one."
AWAY = "The index does not answer at the moment. Try again in a minute."
HTML = {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "The passage, as a page."}
PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "The page."}
# With `model`, FastAPI would say that errors come as what the route returns: as a page or a picture alone.
ERROR = {
    "application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}},
    "text/html": {"schema": {"type": "string"}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": GONE if status == 404 else REFUSALS[status]["description"], "content": ERROR}
    for status in (400, 404, 429, 502, 503)
}


@dataclass(frozen=True, slots=True)
class Context:
    """A chunk, with its neighbours in reading order; ``old`` if a newer version of its object cannot be indexed."""

    chunk: Hit
    before: tuple[Hit, ...]
    after: tuple[Hit, ...]
    old: bool


class Pictures:
    """Draws pages of PDFs, a few at a time, each in a process of its own."""

    def __init__(self) -> None:
        self._turns, self._waiting = asyncio.Semaphore(DRAWN_AT_ONCE), 0

    async def of(self, block: Pipeline, chunk: Hit, span: tuple[int, int] | None) -> bytes:
        """Return the page of a chunk as PNG. Raises ``LockstepError`` if there is no picture of it."""
        if self._waiting >= MOST_WAITING:
            raise RequestError("too many pictures are being drawn; try again", 429, "overloaded")
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(picture, block, chunk, span)
        finally:
            self._waiting -= 1


def link_of(
    request: Request, chunk_id: str, pipeline: str = "", tenant: str = "", at: str = "", until: str = "", sig: str = ""
) -> Passage | None:
    """Return what a link leads to; None if it was not made here, was changed, or has expired."""
    links: Links = request.app.state.links
    return links.opened(chunk_id, pipeline, tenant, at, until, sig)


Link = Annotated[Passage | None, Depends(link_of)]


@router.get("/{chunk_id}", response_class=HTMLResponse, responses={200: HTML, **RESPONSES})
async def passage(request: Request, pipelines: Known, link: Link) -> Response:
    """Show a passage in its context, with the quote marked. The signed link is the permission."""
    try:
        _, context, span = await found(pipelines, link)
    except LockstepError as error:
        return refused(request, error)
    policy = " ".join((TEXT, *request.app.state.frame_origins))
    return page("passage.html", policy, **shown(context, span), query=request.url.query)


@router.get("/{chunk_id}/page.png", response_class=Response, responses={200: PNG, **RESPONSES})
async def page_png(request: Request, pipelines: Known, link: Link) -> Response:
    """Show the page of a PDF that a passage stands on, with the quote marked."""
    block, context, span = await found(pipelines, link)
    try:
        drawn = await request.app.state.pictures.of(block, context.chunk, span)
    except RequestError:
        raise
    except LockstepError:  # the bucket is away, the version is another one by now, the file is no PDF …
        raise RequestError("there is no picture of this page; its text is there", 404, "no_picture") from None
    return Response(drawn, media_type="image/png")


def gone() -> RequestError:
    """Return the error of every link that leads nowhere, whatever the reason."""
    return RequestError(GONE, 404, "no_passage")


async def found(pipelines: Pipelines, link: Passage | None) -> tuple[Pipeline, Context, tuple[int, int] | None]:
    """Return what a link leads to, and where the quote is in it.

    Raises ``RequestError`` 404 if there is none, or it is not the link's tenant's.
    """
    if link is None:
        raise gone()

    def work(block: Pipeline, connections: Connections) -> tuple[Pipeline, Context | None]:
        return block, context_of(block, connections, link)

    try:
        served = await pipelines.named(link.pipeline)
        block, context = await served.run(work, served.searches)
    except MisuseError:  # no such pipeline any more, or one that has tenants now
        raise gone() from None
    if context is None:
        raise gone()
    return block, context, link.span


def context_of(block: Pipeline, connections: Connections, link: Passage) -> Context | None:
    """Return a chunk of the live generation, or of the one in canary, with its neighbours; None if it is in neither."""
    with Index(block, connections) as index:
        live, canary = index.store.resolve(), index.router.canary
        for collection in (live, canary.collection) if canary and canary.live == live else (live,):
            built = Attempt(index, collection, None).pipeline(block.settings)
            where = Scope(tenant=link.tenant).condition(built.settings.tenants)
            for chunk in index.store.chunks(collection, [link.chunk_id], where):
                near = index.store.neighbours(collection, [chunk], REACH, where)
                near.sort(key=lambda hit: hit.chunk_index)
                before = tuple(hit for hit in near if hit.chunk_index < chunk.chunk_index)
                after = tuple(hit for hit in near if hit.chunk_index > chunk.chunk_index)
                return Context(chunk, before, after, is_old(connections, collection, chunk.key))
    return None


def is_old(connections: Connections, collection: str, key: str) -> bool:
    """Return whether a newer version of an object cannot be indexed. Without the ledger nobody knows."""
    ledger = connections.ledger
    try:
        return not isinstance(ledger, LockstepError) and key in outdated(ledger, collection, [key])
    except LockstepError:
        return False


def picture(block: Pipeline, chunk: Hit, span: tuple[int, int] | None) -> bytes:
    """Return the page that a chunk stands on, of exactly the version that was indexed, as PNG.

    Raises ``LockstepError`` if the chunk has no page, the bucket has another version, or the file is too large.
    """
    if chunk.page is None:
        raise PermanentError("only PDFs have pages")
    client, source = block.source.get_client(), block.source
    try:
        ref = head(client, source, chunk.key)
        if ref.etag != chunk.etag or ref.size > source.max_bytes:
            raise PermanentError("the bucket has another version, or the file is too large")
        with tempfile.TemporaryDirectory(prefix="lockstep-page-") as spool:
            file = fetch(client, source, ref, Path(spool))
            return draw(file.path, chunk.page, chunk.text, span)
    finally:
        client.close()


def shown(context: Context, span: tuple[int, int] | None) -> dict[str, Any]:
    """Return what the page of a passage shows."""
    chunk = context.chunk
    begin, end = span if span and span[1] <= len(chunk.text) else (0, 0)
    folder, _, name = chunk.key.rpartition("/")
    return {
        "name": name,
        "folder": f"{folder}/" if folder else "",
        "chunk": chunk,
        "parts": (chunk.text[:begin], chunk.text[begin:end], chunk.text[end:]),
        "before": context.before,
        "after": context.after,
        "old": context.old,
        "address": quote(chunk.chunk_id, safe=""),
    }


def refused(request: Request, error: LockstepError) -> Response:
    """Tell an error to a browser as a small page; raises it again for everybody else."""
    if "text/html" not in request.headers.get("accept", ""):
        raise error
    status, _, _ = told(error)
    response = page("gone.html", status=status, words=GONE if status == 404 else AWAY)
    response.headers.update(headers_of(status))
    return response
