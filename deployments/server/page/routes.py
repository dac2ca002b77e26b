"""The page at `/`, with its script and its styles."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from deployments.server.errors import RequestError
from deployments.server.page.templates import APP, HERE, page

router = APIRouter(include_in_schema=False)
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in sorted((HERE / "static").iterdir()) if path.suffix in TYPES}


@router.get("/")
async def index(request: Request) -> Response:
    """Return the page. It asks for a key itself where one is needed.

    A page of another site may lead here with a question of its own, which would cost an answer: so a person asks it.
    Browsers say where a visitor comes from.
    """
    own = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    return page("page.html", APP, asks=own)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return a file of the pages. Browsers ask each time whether it changed, so that an update shows at once."""
    path = FILES.get(name)
    if path is None:
        raise RequestError("there is no such file", 404, "not_found")
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"cache-control": "no-cache"})
