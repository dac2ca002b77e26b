"""Lockstep's own routes: search and ask."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from blocks.pipeline import Pipeline
from deployments.server import schemas
from deployments.server.access.caller import Caller, Calling
from deployments.server.access.links import PassageUrls, passage_urls
from deployments.server.answering import Answering
from deployments.server.errors import RequestError, envelope, told
from deployments.server.middleware import request_id, until_gone
from deployments.server.pipelines import Pipelines, Served
from deployments.server.records.history import History
from deployments.server.replies import Reply, dumped
from deployments.server.searching import Kind
from deployments.server.shapes import answer_json, citation_json, hits_json
from tasks import metrics
from tasks.answers.answer import answer
from tasks.errors import LockstepError
from tasks.ledger.answers import judge
from tasks.models import Answer, Checked, Citation
from tasks.retrieval.batch_search import Found
from tasks.retrieval.question import Question, check_text, checked
from tasks.retrieval.routing import Connections
from tasks.retrieval.scope import Scope
from tasks.sanitize import hidden

router = APIRouter(tags=["questions"])
RECORDED_TRIES = 5
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
EVENTS = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "event": {"enum": ["claim", "citation", "answer", "error"]},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                },
                "required": ["event", "data"],
            }
        }
    }
}


def pipelines_of(request: Request) -> Pipelines:
    """Return the pipelines of the service."""
    found: Pipelines = request.app.state.pipelines
    return found


Known = Annotated[Pipelines, Depends(pipelines_of)]


@router.post("/search", response_model=schemas.SearchAnswer, responses=REFUSALS)
async def search(body: schemas.SearchRequest, request: Request, pipelines: Known, caller: Calling) -> Response:
    """Find the chunks nearest to a question."""
    found = await find(body, pipelines, caller)
    tenant = caller.scope(body.filter, body.tenant).tenant
    urls = passage_urls(request, body.pipeline or pipelines.default, tenant)
    shown = hits_json(found.collection, found.hits, found.seconds, urls.of)
    return Reply({**shown, "notes": list(found.notes)})


async def find(body: schemas.SearchRequest, pipelines: Pipelines, caller: Caller) -> Found:
    """Return what a question finds that the caller may see, and count it."""
    question = checked(body.question)
    check_text("the session", body.session)
    served, scope = await caller.pipeline(pipelines, body.pipeline, "search"), caller.scope(body.filter, body.tenant)

    kind = Kind(tuple(sorted(body.overrides().items())), scope)
    with metrics.IN_FLIGHT.labels("search").track_inprogress():
        found = await served.searching.search(Question("", question, body.session), kind)
    for stage, seconds in found.seconds.items():
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)
    return found


@router.post(
    "/ask",
    response_model=schemas.AskAnswer,
    responses={**REFUSALS, 200: {"description": "The answer; events with `stream`.", **EVENTS}},
)
async def ask(body: schemas.AskRequest, request: Request, pipelines: Known, caller: Calling) -> Response:
    """Answer a question with checked citations.

    With ``stream`` the answer comes as server-sent events: `claim` for each checked piece, `citation` for each passage
    before the first claim that cites it, and `answer` with the whole at the end, or `error`. A claim's `cited` are the
    positions of the citations told so far, from 0.
    """
    served = await caller.pipeline(pipelines, body.pipeline, "ask")
    scope = caller.scope(body.filter, body.tenant)
    answering = Answering(served, making(body, scope))
    keep, urls = recording(request, served, caller, "/ask"), passage_urls(request, served.name, scope.tenant)
    if body.stream:
        return StreamingResponse(events(answering, keep, urls, request_id(request)), media_type="text/event-stream")
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        made = await until_gone(request, answering.answer())
    return Reply({"id": keep(made), **answer_json(made, urls.of)})


@router.post("/feedback", response_model=schemas.Thanks, responses=REFUSALS)
async def feedback(body: schemas.Feedback, request: Request, pipelines: Known, caller: Calling) -> Response:
    """Record what somebody thinks of an answer that they were given: a thumb up or down, and why."""
    served = await caller.pipeline(pipelines, body.pipeline, "feedback")
    check_text("the reason", body.reason)
    answer_id = body.id.removeprefix("chatcmpl-")

    def work(_pipeline: Pipeline, connections: Connections) -> bool:
        if isinstance(connections.ledger, LockstepError):
            raise connections.ledger
        return judge(connections.ledger, answer_id, caller.id, body.verdict, body.reason)

    for _ in range(RECORDED_TRIES):  # an answer is recorded a moment after it is given
        if await served.run(work, served.searches):
            metrics.FEEDBACK.labels(body.verdict).inc()
            request.app.state.history.judged(served)
            return Reply({"recorded": True})
        await asyncio.sleep(0.5)
    raise RequestError("there is no answer of that id that you were given", 404, "answer_not_found", "id")


def recording(request: Request, served: Served, caller: Caller, route: str) -> Callable[..., str]:
    """Return what records an answer, under an id that is given or a new one, and returns the id."""
    history: History = request.app.state.history

    def keep(made: Answer, answer_id: str = "") -> str:
        keep_text = served.settings.record_questions if served.settings else False
        return history.add(served, caller, route, made, answer_id or uuid.uuid4().hex, keep_text=keep_text)

    return keep


def making(body: schemas.AskRequest, scope: Scope) -> Any:
    """Return what makes the answer to a request. Raises ``MisuseError`` for a question that is none."""
    question = checked(body.question)
    check_text("the session", body.session)

    def make(pipeline: Pipeline, connections: Connections) -> Answer:
        settings = pipeline.settings.model_copy(update=body.overrides())
        return answer(pipeline, question, settings, session=body.session, scope=scope, connections=connections)

    return make


async def events(answering: Answering, keep: Callable[..., str], urls: PassageUrls, about: str) -> AsyncIterator[bytes]:
    """Yield an answer as server-sent events, while it is made."""
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        try:
            told_of, any_piece = dict[Citation, int](), False
            async for piece in answering.pieces():
                any_piece = True
                for event in piece_events(piece, told_of, urls):
                    yield event
            made = await answering.answer()
            if not any_piece:  # cached, extractive or abstained: nothing came piece by piece
                for event in piece_events(Checked(made.answer, made.claims, made.citations), told_of, urls):
                    yield event
            yield sse("answer", {"id": keep(made), **answer_json(made, urls.of)})
        except LockstepError as error:
            status, code, param = told(error)
            yield sse("error", envelope(status, code, hidden(str(error)), about, param))


def piece_events(piece: Checked, told_of: dict[Citation, int], urls: PassageUrls) -> list[bytes]:
    """Return the events of a piece: each citation once, before the claims that rest on it.

    ``told_of`` are the citations told so far, with their positions. ``cited`` of a claim names those it rests on.
    """
    made: list[bytes] = []
    for citation in piece.citations:
        if citation not in told_of:
            told_of[citation] = len(told_of)
            made.append(sse("citation", citation_json(asdict(citation), urls.of)))
    claims = [{"text": claim.text, "citations": claim.citations, "verified": claim.verified} for claim in piece.claims]
    cited = [told_of[citation] for citation in piece.citations]
    return [*made, sse("claim", {"text": piece.text, "claims": claims, "cited": cited})]


def sse(name: str, data: object) -> bytes:
    """Return one server-sent event."""
    return f"event: {name}\ndata: {dumped(data)}\n\n".encode()
