"""The tools: search, fetch and ask. They see what the caller's key sees, whatever their arguments say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.server import schemas
from deployments.server.access.links import Passage
from deployments.server.answering import Answering
from deployments.server.errors import RequestError
from deployments.server.mcp.passages import parts_of, passage_id, title_of, url_of
from deployments.server.mcp.schemas import (
    AskArguments,
    AskResult,
    Document,
    FetchArguments,
    Metadata,
    Result,
    Results,
    SearchArguments,
)
from deployments.server.native import find, making, recording
from deployments.server.shapes import answer_json
from tasks import metrics
from tasks.answers.section import Section, section_of
from tasks.retrieval.question import check_text

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import Request

    from blocks.pipeline import Pipeline
    from deployments.server.access.caller import Caller
    from deployments.server.pipelines import Pipelines
    from tasks.ledger.keys import Right
    from tasks.retrieval.routing import Connections

    Tell = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool: the HTTP request that brought it, and what tells the client of progress."""

    request: Request
    tell: Tell

    @property
    def caller(self) -> Caller:
        """Who calls."""
        found: Caller = self.request.state.caller
        return found

    @property
    def pipelines(self) -> Pipelines:
        """The pipelines of the service."""
        found: Pipelines = self.request.app.state.pipelines
        return found


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what a key needs to call it, what it takes and returns, and the function that does it."""

    name: str
    right: Right
    title: str
    description: str
    takes: type[BaseModel]
    returns: type[BaseModel]
    work: Callable[[Call, Any], Awaitable[BaseModel]]


def own_default(caller: Caller, pipelines: Pipelines) -> str:
    """Return the pipeline of a call that names none: the service's default, or the first one of a key without it.

    An assistant rarely knows names of pipelines, and ChatGPT never sends one.
    """
    allowed = caller.key.pipelines if caller.key else ()
    return allowed[0] if allowed and pipelines.default not in allowed else pipelines.default


async def search(call: Call, asked: SearchArguments) -> Results:
    """Find passages."""
    pipeline = asked.pipeline or own_default(call.caller, call.pipelines)
    body = schemas.SearchRequest(question=asked.query, pipeline=pipeline, top_k=asked.top_k, filter=asked.filter)
    found = await find(body, call.pipelines, call.caller)
    tenant = call.caller.scope("", "").tenant
    results = [
        Result(
            id=passage_id(pipeline, hit.chunk_id),
            title=title_of(hit),
            url=url_of(call.request, Passage(pipeline, hit.chunk_id, tenant)),
            **{name: getattr(hit, name) for name in ("text", "score", "key", "heading", "page", "outdated")},
        )
        for hit in found.hits
    ]
    return Results(results=results, pipeline=pipeline, collection=found.collection, notes=list(found.notes))


async def fetch(call: Call, asked: FetchArguments) -> Document:
    """Read the section around a passage. Another tenant's passage is not found, in the words for one that is not."""
    check_text("the id", asked.id)
    named, chunk_id = parts_of(asked.id)
    served = await call.caller.pipeline(call.pipelines, named or own_default(call.caller, call.pipelines), "read")
    scope = call.caller.scope("", "")

    def work(pipeline: Pipeline, connections: Connections) -> Section | None:
        return section_of(pipeline, chunk_id, connections, scope)

    with metrics.IN_FLIGHT.labels("fetch").track_inprogress():
        section = await served.run(work, served.searches)
    if section is None:
        raise RequestError(
            f"there is no passage '{asked.id}'. Its document may have changed since; `search` finds the passages that "
            "there are now.",
            404,
            "passage_not_found",
            "id",
        )
    hit = section.passage
    return Document(
        id=passage_id(served.name, hit.chunk_id),
        title=title_of(hit),
        text=hit.text,
        url=url_of(call.request, Passage(served.name, hit.chunk_id, scope.tenant)),
        metadata=Metadata(
            pipeline=served.name,
            collection=section.collection,
            version=hit.etag,
            notes=list(section.notes),
            **{name: getattr(hit, name) for name in ("chunk_id", "key", "heading", "page", "outdated")},
        ),
    )


async def ask(call: Call, asked: AskArguments) -> AskResult:
    """Answer a question. Its checked claims are told as progress while the rest is written."""
    named = asked.pipeline or own_default(call.caller, call.pipelines)
    served, scope = await call.caller.pipeline(call.pipelines, named, "ask"), call.caller.scope(asked.filter, "")
    body = schemas.AskRequest(question=asked.question, top_k=asked.top_k, filter=asked.filter, strict=asked.strict)
    keep = recording(call.request, served, call.caller, "/mcp")
    with metrics.IN_FLIGHT.labels("ask").track_inprogress(), Answering(served, making(body, scope)) as answering:
        async for piece in answering.pieces():
            await call.tell(piece.text.strip())
        made = await answering.answer()
    shown = {"id": keep(made), "pipeline": served.name, **answer_json(made)}
    for citation in shown["citations"]:
        chunk_id = citation["chunk_id"]
        passage = Passage(served.name, chunk_id, scope.tenant, citation["span"])
        citation["id"] = passage_id(served.name, chunk_id) if chunk_id else ""
        citation["url"] = url_of(call.request, passage) if chunk_id else ""
    return AskResult.model_validate(shown)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "search",
            "search",
            "Search the documents",
            "Find the passages of the documents that are nearest to a query, best first. Use it to see what the "
            "documents say; `fetch` reads the section around a result.",
            SearchArguments,
            Results,
            search,
        ),
        Tool(
            "fetch",
            "read",
            "Read a passage",
            "Read a passage that `search` or `ask` named, with the section around it.",
            FetchArguments,
            Document,
            fetch,
        ),
        Tool(
            "ask",
            "ask",
            "Ask the documents",
            "Answer a question from the documents, with citations. Each claim says whether a quote of a document "
            "supports it word for word. Without support in the documents it says so instead of answering.",
            AskArguments,
            AskResult,
            ask,
        ),
    )
}
