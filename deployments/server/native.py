"""Lockstep's own routes: search and ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from blocks.pipeline import Pipeline
from deployments.server import schemas
from deployments.server.access import Calling
from deployments.server.answering import Answering
from deployments.server.errors import envelope, headers_of, told
from deployments.server.middleware import request_id, until_gone
from deployments.server.pipelines import Pipelines, Served
from deployments.server.shapes import answer_json, citation_json, hits_json
from tasks import metrics
from tasks.answers.answer import answer
from tasks.errors import LockstepError
from tasks.models import Answer, Checked
from tasks.retrieval.batch_search import Found, search_one
from tasks.retrieval.question import check_text, checked
from tasks.retrieval.routing import Connections
from tasks.retrieval.scope import Scope
from tasks.sanitize import hidden

router = APIRouter(tags=["questions"])
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Refusal, "description": description}
    for status, description in {
        400: "The request is not one, or its filter, tenant or question will not do.",
        404: "There is no such pipeline.",
        409: "What answers holds another bucket than the pipeline.",
        413: "The body is too large.",
        429: "Too many questions wait.",
        502: "A part refused; the message names it.",
        503: "A part does not answer, or the service is stopping.",
    }.items()
}
EVENTS = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}


def pipelines_of(request: Request) -> Pipelines:
    """Return the pipelines of the service."""
    found: Pipelines = request.app.state.pipelines
    return found


Known = Annotated[Pipelines, Depends(pipelines_of)]


@router.post("/search", response_model=schemas.SearchAnswer, responses=REFUSALS)
async def search(body: schemas.SearchRequest, pipelines: Known, caller: Calling) -> Response:
    """Find the chunks nearest to a question."""
    question = checked(body.question)
    check_text("the session", body.session)
    served, scope = await caller.pipeline(pipelines, body.pipeline, "search"), caller.scope(body.filter, body.tenant)

    def work(pipeline: Pipeline, connections: Connections) -> Found:
        settings = pipeline.settings.model_copy(update=body.overrides())
        return search_one(pipeline, question, settings, connections, scope, body.session)

    with metrics.IN_FLIGHT.labels("search").track_inprogress():
        found = await served.run(work, served.searches)
    for stage, seconds in found.seconds.items():
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)
    shown = hits_json(found.collection, found.hits, found.seconds)
    return JSONResponse({**shown, "notes": list(found.notes)})


@router.post(
    "/ask",
    response_model=schemas.AskAnswer,
    responses={**REFUSALS, 200: {"description": "The answer; events with `stream`.", **EVENTS}},
)
async def ask(body: schemas.AskRequest, request: Request, pipelines: Known, caller: Calling) -> Response:
    """Answer a question with checked citations.

    With ``stream`` the answer comes as server-sent events: `claim` for each checked piece, `citation` for each passage
    before the first claim that cites it, and `answer` with the whole at the end, or `error`.
    """
    served = await caller.pipeline(pipelines, body.pipeline, "ask")
    answering = Answering(served, making(body, caller.scope(body.filter, body.tenant)))
    if body.stream:
        return StreamingResponse(events(answering, request_id(request)), media_type="text/event-stream")
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        made = await until_gone(request, answering.answer())
    return JSONResponse(answer_json(made))


def making(body: schemas.AskRequest, scope: Scope) -> Any:
    """Return what makes the answer to a request. Raises ``MisuseError`` for a question that is none."""
    question = checked(body.question)
    check_text("the session", body.session)

    def make(pipeline: Pipeline, connections: Connections) -> Answer:
        settings = pipeline.settings.model_copy(update=body.overrides())
        return answer(pipeline, question, settings, session=body.session, scope=scope, connections=connections)

    return make


async def events(answering: Answering, about: str) -> AsyncIterator[bytes]:
    """Yield an answer as server-sent events, while it is made."""
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        try:
            seen: set[str] = set()
            async for piece in answering.pieces():
                for event in piece_events(piece, seen):
                    yield event
            made = await answering.answer()
            if not seen:  # cached, extractive or abstained: nothing came piece by piece
                for event in piece_events(Checked(made.answer, made.claims, made.citations), seen):
                    yield event
            yield sse("answer", answer_json(made))
        except LockstepError as error:
            status, code, param = told(error)
            yield sse("error", envelope(status, code, hidden(str(error)), about, param))


def piece_events(piece: Checked, seen: set[str]) -> list[bytes]:
    """Return the events of a piece: each citation once, before the claims that rest on it."""
    made: list[bytes] = []
    for citation in piece.citations:
        shown = citation_json(asdict(citation))
        if (known := json.dumps(shown)) not in seen:
            seen.add(known)
            made.append(sse("citation", shown))
    seen.add("")  # something came
    claims = [{"text": claim.text, "citations": claim.citations, "verified": claim.verified} for claim in piece.claims]
    return [*made, sse("claim", {"text": piece.text, "claims": claims})]


def sse(name: str, data: object) -> bytes:
    """Return one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


__all__ = ["Served", "headers_of", "router"]
