"""How a pipeline's index is: which generation answers, how old the last sync is, and what could not be indexed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from deployments.server import schemas
from deployments.server.access import Calling
from deployments.server.native import REFUSALS, Known
from deployments.server.pipelines import once
from tasks.errors import LockstepError
from tasks.ledger.canary import canary_of
from tasks.ledger.objects import count_objects
from tasks.retrieval.routing import Attempt, Index
from tasks.retrieval.scope import Scope
from tasks.sanitize import hidden

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.access import Caller
    from tasks.retrieval.routing import Connections

router = APIRouter(tags=["health"])
RUNS_READ = 200
PREFECT_SECONDS = 5.0


@router.get("/state", response_model=schemas.IndexState, responses=REFUSALS)
async def state(
    pipelines: Known, caller: Calling, pipeline: Annotated[str | None, Query(min_length=1, max_length=255)] = None
) -> Response:
    """Say how a pipeline's index is: what answers, how long ago it was brought in step, and what is in quarantine."""
    served = await caller.pipeline(pipelines, pipeline, "read")

    def work(block: Pipeline, connections: Connections) -> schemas.IndexState:
        return look(served.name, block, connections, caller)

    found, began = await asyncio.gather(served.run(work, served.searches), last_sync(served.name))
    if isinstance(began, str):
        found.notes.append(began)
    elif began:
        found.synced_at = began.isoformat(timespec="seconds")
        found.age_seconds = round(max((datetime.now(UTC) - began).total_seconds(), 0.0), 1)
    return JSONResponse(found.model_dump())


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
    except LockstepError as error:
        told.notes.append(hidden(str(error)))
        return told
    told.chunks, told.objects = counts["chunks"], counts.get("indexed", 0)
    told.quarantined = counts.get("quarantined", 0)
    told.waiting = sum(counts.get(one, 0) for one in ("pending", "deleting", "returned"))
    if canary and canary.live == live:
        told.canary = schemas.CanaryState(generation=canary.collection, share=canary.share)
    return told


async def last_sync(pipeline: str) -> datetime | str | None:
    """Return when the last completed sync of a pipeline began, None if there was none, or why that is not known.

    The index is in step with the bucket as it was then: a sync lists it first.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateName,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    # A run that left its work to a waiting one is completed too, under another name.
    completed = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Completed"])))
    try:
        with once():
            async with asyncio.timeout(PREFECT_SECONDS), get_client() as client:
                runs = await client.read_flow_runs(
                    flow_filter=FlowFilter(name=FlowFilterName(any_=["sync"])),
                    flow_run_filter=completed,
                    sort=FlowRunSort.START_TIME_DESC,
                    limit=RUNS_READ,
                )
    except Exception as error:  # noqa: BLE001 - Prefect's client raises many kinds; what it knows is missing then
        return f"Prefect does not say when the last sync was ({type(error).__name__}). See `lockstep status`."
    of_live = (run for run in runs if run.parameters.get("pipeline") == pipeline and not run.parameters.get("into"))
    return next((run.start_time for run in of_live if run.start_time), None)
