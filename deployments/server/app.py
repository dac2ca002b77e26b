"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from deployments.server import native, notifications
from deployments.server.access.caller import Access
from deployments.server.access.links import Links
from deployments.server.access.rates import Rates
from deployments.server.errors import RequestError, envelope, headers_of, told
from deployments.server.mcp import endpoint as mcp
from deployments.server.middleware import LOOPBACK, Guard, request_id
from deployments.server.notifications import Intakes
from deployments.server.observability import health, index_state
from deployments.server.observability.index_metrics import IndexMetrics
from deployments.server.openai import routes as openai
from deployments.server.page import passages
from deployments.server.page import routes as pages
from deployments.server.page.passages import Pictures
from deployments.server.pipelines import Pipelines
from deployments.server.records.history import History
from deployments.server.replies import Reply
from tasks import metrics
from tasks.errors import LockstepError
from tasks.evaluation.warmup import warmth
from tasks.retrieval.batch_search import search_one
from tasks.retrieval.question import Question
from tasks.sanitize import hidden, visible

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from tasks.retrieval.routing import Connections

logger = logging.getLogger(__name__)
WARMING = "What is this about?"
WARM_AGAIN_SECONDS, WARM_SELDOM_SECONDS = 1.0, 30.0
NO_TELEMETRY: TelemetryConfig = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}
"""FastAPI's own spans would hold the query of an address: a question, or the signature of a link."""
TURNED_AWAY = (401, 403, 429)
"""Without a valid key or right, or one too many. The guard counts what it refuses before."""
ABOUT = "Questions answered from a Milvus index that is kept in step with a bucket, with citations that are checked."


def create_app(  # noqa: PLR0913 - they are what the environment says of a service
    default: str,
    hosts: frozenset[str] = frozenset(LOOPBACK),
    draining: Callable[[], bool] = lambda: False,
    *,
    local: bool = True,
    own_key: str = "",
    public_url: str = "",
    frame_origins: tuple[str, ...] = (),
    rates: Rates | None = None,
    watch_token: str = "",
) -> Guard:
    """Return the service over the saved pipelines; ``default`` answers requests that name none.

    ``hosts`` are the names under which it may be called; ``draining`` says whether it is stopping. With ``local``,
    which is for a loopback address alone, nobody needs a key until there is one. Who sends ``own_key`` may do
    everything. Links in answers begin with ``public_url``, or with the request's own address. Pages of the
    ``frame_origins`` may show passages in a frame. ``rates`` limits the requests of each caller. S3 servers that send
    ``watch_token`` may notify.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pipelines = Pipelines(default)
        app.state.rates = rates or Rates()
        app.state.links = Links(own_key or secrets.token_hex())
        app.state.public_url = public_url
        app.state.frame_origins = frame_origins
        app.state.pictures = Pictures()
        app.state.access = Access(app.state.pipelines, local, own_key)
        app.state.intakes = Intakes(app.state.pipelines, watch_token)
        app.state.history = History()
        recording = asyncio.create_task(app.state.history.run())
        app.state.draining = draining
        others = [warm(app.state.pipelines), IndexMetrics(app.state.pipelines).run()]
        beside = [asyncio.create_task(one) for one in others]
        async with mcp.running(app):
            yield
        for task in (*beside, recording):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await recording
        app.state.intakes.close()
        app.state.pipelines.close()

    app = FastAPI(
        title="Lockstep",
        description=ABOUT,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    for routes in (health, index_state, native, notifications, openai, passages, pages):
        app.include_router(routes.router)
    mcp.add_to(app)
    app.add_exception_handler(LockstepError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_error)
    return Guard(app, hosts, draining)


async def warm(pipelines: Pipelines) -> None:
    """Open the default pipeline's connections and load its model before somebody waits for them.

    Until the pipeline is saved and has an index, that fails. So it is tried again, ever more seldom.
    """
    served, wait = await pipelines.named(None), WARM_AGAIN_SECONDS
    while True:
        with suppress(LockstepError):  # whoever asks gets the error
            await served.run(look_once, served.searches)
            return
        await asyncio.sleep(wait)
        wait = min(2 * wait, WARM_SELDOM_SECONDS)


def look_once(pipeline: Pipeline, opened: Connections) -> None:
    """Search until searches are fast. Then the connections are open, the model is loaded and the index is in memory."""
    found = search_one(pipeline, Question("", WARMING), pipeline.settings, opened)
    logger.info("%s is warm: %s", found.collection, warmth(opened.store, found.collection, pipeline.settings))


async def on_error(request: Request, error: Exception) -> Response:
    """Tell an error of ours; of any other only that there was one, and where to look."""
    status, code, param = told(error)
    message = hidden(str(error))
    if not isinstance(error, LockstepError):
        logger.error("request %s failed", request_id(request), exc_info=error)
        message = f"unexpected: {type(error).__name__}. The service's log has the trace under {request_id(request)}"
    return refusal(request, status, code, message, param, error.headers if isinstance(error, RequestError) else None)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Tell the first thing that is wrong with a request's body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    message = visible(f"{place or 'body'}: {first['msg']}")
    return refusal(request, 400, "invalid_request", message[:500], place or None)


async def on_http(request: Request, error: Exception) -> Response:
    """Tell of a route that is not there, or a method that it has not."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return refusal(request, error.status_code, code, str(error.detail), None, dict(error.headers or {}))


def refusal(
    request: Request, status: int, code: str, message: str, param: str | None, headers: dict[str, str] | None = None
) -> Response:
    """Return an error in the one envelope of all errors, and count whom it turns away."""
    if status in TURNED_AWAY:
        metrics.REJECTED.labels(code).inc()
    body = envelope(status, code, message, request_id(request), param)
    return Reply(body, status_code=status, headers={**headers_of(status), **(headers or {})})
