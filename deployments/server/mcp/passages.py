"""How a passage is named to assistants: an id that `fetch` takes, a title, and a link that a browser opens.

An id is PIPELINE/CHUNK. It names a chunk rather than an object: a link leads to a chunk, a tenant owns it, and an
object may be a book. The pipeline is in it because ChatGPT sends the id alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.server.access.links import Links, Passage
from tasks.sanitize import one_line

if TYPE_CHECKING:
    from starlette.requests import Request

    from tasks.models import Hit


def passage_id(pipeline: str, chunk_id: str) -> str:
    """Return the id of a chunk."""
    return f"{pipeline}/{chunk_id}"


def parts_of(passage: str) -> tuple[str | None, str]:
    """Return the pipeline and the chunk of an id; no pipeline for the bare id of a chunk."""
    pipeline, _, chunk_id = passage.rpartition("/")
    return pipeline or None, chunk_id


def title_of(hit: Hit) -> str:
    """Return where a passage stands: key › heading › page."""
    page = f"page {hit.page}" if hit.page else ""
    return one_line(" › ".join(part for part in (hit.key, hit.heading, page) if part))


def url_of(request: Request, passage: Passage) -> str:
    """Return the absolute, signed link to a passage."""
    links: Links = request.app.state.links
    base: str = request.app.state.public_url or str(request.base_url)
    return base.rstrip("/") + links.path(passage)
