"""How a pipeline's index is: which generation answers, how old the last sync is, and what could not be indexed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from deployments.server import schemas
from deployments.server.access.caller import Calling
from deployments.server.native import REFUSALS, Known
from deployments.server.replies import Reply
from tasks.errors import LockstepError
from tasks.ledger.canary import canary_of
from tasks.ledger.changes import lag_of
from tasks.ledger.generations import in_step
from tasks.ledger.objects import count_objects
from tasks.retrieval.routing import Attempt, Index
from tasks.retrieval.scope import Scope
from tasks.sanitize import hidden

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.access.caller import Caller
    from tasks.retrieval.routing import Connections

router = APIRouter(tags=["health"])


@router.get("/state", response_model=schemas.IndexState, responses=REFUSALS)
async def state(
    pipelines: Known, caller: Calling, pipeline: Annotated[str | None, Query(min_length=1, max_length=255)] = None
) -> Response:
    """Say how a pipeline's index is: what answers, how long ago it was brought in step, and what is in quarantine."""
    served = await caller.pipeline(pipelines, pipeline, "read")

    def work(block: Pipeline, connections: Connections) -> schemas.IndexState:
        return look(served.name, block, connections, caller)

    found = await served.run(work, served.searches)
    return Reply(found.model_dump())


def look(name: str, block: Pipeline, connections: Connections, caller: Caller) -> schemas.IndexState:
    """Return what Milvus and the ledger know. A ledger that does not answer costs its numbers, not the rest."""
    with Index(block, connections) as index:
        live = index.store.resolve()
        built = Attempt(index, live, None).pipeline(block.settings)
    folder = ""
    if caller.key:
        Scope(tenant=caller.key.tenant).condition(built.settings.tenants)  # raises where the key sees nothing
        folder = f"{block.source.prefix}{caller.key.tenant}/" if built.settings.tenants else ""
    told = schemas.IndexState(pipeline=name, generation=live)
    try:
        if isinstance(connections.ledger, LockstepError):
            raise connections.ledger
        counts = count_objects(connections.ledger, live, folder)
        canary = canary_of(connections.ledger, block.alias)
        when = in_step(connections.ledger, live)
        lag = lag_of(connections.ledger, block.alias, live)
    except LockstepError as error:
        told.notes.append(hidden(str(error)))
        return told
    told.chunks, told.objects = counts["chunks"], counts.get("indexed", 0)
    told.quarantined = counts.get("quarantined", 0)
    told.waiting = sum(counts.get(one, 0) for one in ("pending", "deleting", "returned"))
    if canary and canary.live == live:
        told.canary = schemas.CanaryState(generation=canary.collection, share=canary.share)
    told.lag_seconds, told.age_seconds = lag.seconds, lag.listed_seconds
    told.synced_at, told.audited_at = iso(when.synced_at), iso(when.audited_at)
    return told


def iso(stamp: int | None) -> str | None:
    """Return ms since 1970 as ISO 8601."""
    return datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="seconds") if stamp else None
