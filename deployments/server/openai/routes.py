"""OpenAI's routes: an unchanged client lists the pipelines as models, chats with them, and searches them.

    docs            cites by [n]; what [n] is comes beside the text, as clients that know sources read it
    docs:sources    puts a list of the sources behind the text, for clients that show nothing else
    docs:strict     leaves out what no verified quote supports

The sources are numbered by their first citation, and each is told before the claim that first cites it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from blocks.pipeline import Pipeline
from deployments.server.access.caller import Calling
from deployments.server.access.links import PassageUrls, passage_urls
from deployments.server.answering import Answering
from deployments.server.errors import NoPipelineError, RequestError, envelope, told
from deployments.server.middleware import request_id, until_gone
from deployments.server.native import REFUSALS, Known, recording
from deployments.server.openai import schemas
from deployments.server.openai.conversation import Conversation, conversation
from deployments.server.openai.sources import Sources
from deployments.server.openai.store_filters import as_filter
from deployments.server.pipelines import Pipelines, Served
from deployments.server.replies import Reply, dumped
from deployments.server.searching import Kind
from deployments.server.shapes import citation_json
from tasks import metrics
from tasks.answers.answer import answer
from tasks.errors import LockstepError
from tasks.models import Answer, Checked, Hit
from tasks.retrieval.batch_search import Found
from tasks.retrieval.question import Question, checked
from tasks.retrieval.routing import Connections
from tasks.retrieval.scope import Scope
from tasks.sanitize import hidden, visible
from tasks.text.markdown import harmless

router = APIRouter(prefix="/v1", tags=["openai"])
VARIANTS = ("sources", "strict")
DONE = b"data: [DONE]\n\n"


def model_named(model: str) -> tuple[str, set[str]]:
    """Return the pipeline and the variants that a model id names. Raises ``NoPipelineError``."""
    name, *variants = model.split(":")
    if unknown := set(variants) - set(VARIANTS):
        raise NoPipelineError(
            f"there is no model '{model}': behind a pipeline's name come :{', :'.join(VARIANTS)}, not :{min(unknown)}"
        )
    return name, set(variants)


@router.get("/models", response_model=schemas.Models)
async def models(pipelines: Known, caller: Calling) -> Response:
    """List the pipelines as models, each with its variants."""
    names = filter(caller.sees, await pipelines.names())
    ids = [f"{name}{end}" for name in names for end in ("", *(f":{one}" for one in VARIANTS))]
    data = [{"id": one, "object": "model", "created": 0, "owned_by": "lockstep"} for one in ids]
    return Reply({"object": "list", "data": data})


@router.get("/models/{model}", response_model=schemas.Model, responses=REFUSALS)
async def model(model: str, pipelines: Known, caller: Calling) -> Response:
    """Return one model."""
    name, _ = model_named(model)
    await caller.pipeline(pipelines, name, "ask")
    return Reply({"id": model, "object": "model", "created": 0, "owned_by": "lockstep"})


CHUNKS = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {"data": {"type": "string", "description": "A chunk as JSON, or [DONE]."}},
                "required": ["data"],
            }
        }
    }
}


@router.post(
    "/chat/completions",
    response_model=schemas.Completion,
    responses={**REFUSALS, 200: {"description": "The answer; chunks with `stream`.", **CHUNKS}},
)
async def chat(body: schemas.ChatRequest, request: Request, pipelines: Known, caller: Calling) -> Response:
    """Answer the last question of a conversation, with checked citations.

    Earlier turns are condensed into the question. With `stream` chunks come as OpenAI's do.
    """
    body.check()
    name, variants = model_named(body.model)
    served = await caller.pipeline(pipelines, name, "ask")
    asked = conversation(body.turns())
    keep = recording(request, served, caller, "/v1/chat/completions")
    scope = caller.scope("", "")
    urls = passage_urls(request, served.name, scope.tenant)
    writer = Writer(body.model, "sources" in variants, urls, keep if not asked.task else None)
    answering = Answering(served, making(asked, body, "strict" in variants, scope))
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return StreamingResponse(stream(answering, writer, request_id(request), usage), media_type="text/event-stream")
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        made = await until_gone(request, answering.answer())
    return Reply(writer.whole(made))


def making(asked: Conversation, body: schemas.ChatRequest, strict: bool, scope: Scope) -> Any:
    """Return what makes the answer to the last question of a conversation."""

    def make(pipeline: Pipeline, connections: Connections) -> Answer:
        changed: dict[str, Any] = {"strict": True} if strict else {}
        for field in ("temperature", "top_p", "seed"):
            if (value := getattr(body, field)) is not None:
                changed[field] = value
        if most := body.max_completion_tokens or body.max_tokens:
            changed["max_answer_tokens"] = max(most, 16)
        settings = pipeline.settings.model_copy(update=changed)
        if asked.task:
            return asked.task_answer(pipeline, settings)
        question = checked(asked.condensed(pipeline, settings))
        return answer(pipeline, question, settings, session=body.user or "", scope=scope, connections=connections)

    return make


class Writer:
    """Writes one answer as OpenAI's chat completions are written."""

    def __init__(self, model: str, listed: bool, urls: PassageUrls, keep: Callable[..., str] | None) -> None:
        self._listed, self._urls, self._keep = listed, urls, keep
        self._id = uuid.uuid4().hex
        self._about = {"id": f"chatcmpl-{self._id}", "created": int(time.time()), "model": model}
        self._sources = Sources(urls)
        # A task of the chat page is answered in JSON, which a program reads and no page shows.
        self._shown = harmless if keep else visible

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        """Return a chunk of a stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {**self._about, "object": "chat.completion.chunk", "choices": [choice], **more}
        return f"data: {dumped(body)}\n\n".encode()

    def piece(self, piece: Checked) -> list[bytes]:
        """Return the chunks of a piece: a source each for what it cites first, then its text."""
        new = self._sources.cited(piece.citations)
        chunks = [] if self._listed else [self.chunk({}, event=source.event()) for source in new]
        text = self._shown(self._sources.renumbered(piece.text))
        return [*chunks, self.chunk({"content": text})] if text else chunks

    def end(self, made: Answer, with_usage: bool) -> list[bytes]:
        """Return the last chunks of a stream."""
        chunks = [self.chunk({"content": self._sources.as_list()})] if self._listed and self._sources else []
        chunks.append(self.chunk({}, "stop", **self._facts(made)))
        if with_usage:
            body = {**self._about, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(made)}
            chunks.append(f"data: {dumped(body)}\n\n".encode())
        return [*chunks, DONE]

    def whole(self, made: Answer) -> dict[str, Any]:
        """Return an answer that is not streamed."""
        self._sources.cited(made.citations)
        text = self._shown(self._sources.renumbered(made.answer))
        annotations = self._sources.annotations(text)
        if self._listed and self._sources:
            text += self._sources.as_list()
        message = {"role": "assistant", "content": text, "annotations": annotations}
        return {
            **self._about,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage_of(made),
            "sources": [source.data() for source in self._sources],
            **self._facts(made),
        }

    def _facts(self, made: Answer) -> dict[str, Any]:
        if self._keep:
            self._keep(made, self._id)
        shown = [citation_json(asdict(one), self._urls.of) for one in made.citations]
        citations = [{**one, "n": self._sources.number(one["n"])} for one in shown]
        facts = {name: getattr(made, name) for name in ("question", "mode", "collection", "cached", "seconds")}
        return {"citations": citations, "lockstep": {**facts, "notes": list(made.notes)}}


def usage_of(made: Answer) -> dict[str, int]:
    """Return the tokens of an answer as OpenAI names them."""
    prompt, completion = made.tokens.get("prompt", 0), made.tokens.get("completion", 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def stream(answering: Answering, writer: Writer, about: str, usage: bool) -> AsyncIterator[bytes]:
    """Yield the chunks of an answer while it is made."""
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), answering:
        try:
            yield writer.chunk({"role": "assistant", "content": ""})
            any_piece = False
            async for piece in answering.pieces():
                any_piece = True
                for chunk in writer.piece(piece):
                    yield chunk
            made = await answering.answer()
            if not any_piece:
                for chunk in writer.piece(Checked(made.answer, made.claims, made.citations)):
                    yield chunk
            for chunk in writer.end(made, usage):
                yield chunk
        except LockstepError as error:
            status, code, param = told(error)
            body = envelope(status, code, hidden(str(error)), about, param)
            yield f"data: {dumped(body)}\n\n".encode()
            yield DONE


@router.get("/vector_stores", response_model=schemas.VectorStores)
async def vector_stores(pipelines: Known, caller: Calling) -> Response:
    """List the pipelines as vector stores."""
    data = [store_json(name) for name in filter(caller.sees, await pipelines.names())]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return Reply({"object": "list", "data": data, "has_more": False, **ends})


@router.get("/vector_stores/{pipeline}", response_model=schemas.VectorStore, responses=REFUSALS)
async def vector_store(pipeline: str, pipelines: Known, caller: Calling) -> Response:
    """Return one vector store."""
    return Reply(store_json((await caller.pipeline(pipelines, pipeline, "search")).name))


def store_json(name: str) -> dict[str, Any]:
    """Return a pipeline as a vector store."""
    counts = dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), 0)
    return {
        "id": name, "object": "vector_store", "created_at": 0, "name": name, "usage_bytes": 0, "file_counts": counts,
        "status": "completed", "last_active_at": None, "metadata": {},
    }  # fmt: skip


@router.post("/vector_stores/{pipeline}/search", response_model=schemas.StorePage, responses=REFUSALS)
async def search_store(
    pipeline: str, body: schemas.StoreSearch, request: Request, pipelines: Known, caller: Calling
) -> Response:
    """Find the chunks nearest to a question, as OpenAI's vector stores do."""
    served = await caller.pipeline(pipelines, pipeline, "search")
    scope = caller.scope(as_filter(body.filters), "")
    urls = passage_urls(request, served.name, scope.tenant)
    found = await found_in(served, body, scope)
    least = (body.ranking_options.score_threshold or 0.0) if body.ranking_options else 0.0
    data = [file_json(hit, urls) for hit in found.hits if hit.score >= least or least == 0.0]
    query = [body.query] if isinstance(body.query, str) else body.query
    page = {"object": "vector_store.search_results.page", "search_query": query, "data": data}
    return Reply({**page, "has_more": False, "next_page": None})


async def found_in(served: Served, body: schemas.StoreSearch, scope: Scope) -> Found:
    """Return what a search in a vector store finds."""
    text = body.query if isinstance(body.query, str) else " ".join(body.query)
    kind = Kind((("top_k", body.max_num_results),), scope)
    return await served.searching.search(Question("", checked(text)), kind)


def file_json(hit: Hit, urls: PassageUrls) -> dict[str, Any]:
    """Return a chunk as a result of a vector store; a file's id is its key."""
    attributes: dict[str, str | int | bool] = {
        "chunk_id": hit.chunk_id, "heading": hit.heading[:512], "version": hit.etag, "outdated": hit.outdated,
        "url": urls.of(hit.chunk_id),
    }  # fmt: skip
    if hit.page is not None:
        attributes["page"] = hit.page
    content = [{"type": "text", "text": hit.text}]
    return {"file_id": hit.key, "filename": hit.key, "score": hit.score, "attributes": attributes, "content": content}


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def other(rest: str) -> Response:
    """Say of other routes of OpenAI's that there are none."""
    raise RequestError(
        f"there is no /v1/{rest[:100]} here; there are /v1/models, /v1/chat/completions and /v1/vector_stores",
        404, "unknown_route",
    )  # fmt: skip


__all__ = ["Pipelines", "router"]
