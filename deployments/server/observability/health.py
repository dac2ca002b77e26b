"""Is the service alive, and can it answer? And its metrics."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from deployments.server import schemas
from deployments.server.access.caller import Access, Caller, Calling
from deployments.server.errors import RequestError
from deployments.server.native import REFUSALS, Known
from deployments.server.pipelines import Served
from deployments.server.replies import Reply
from tasks import metrics
from tasks.errors import LockstepError, TransientError
from tasks.sanitize import hidden

router = APIRouter(tags=["health"])
CHECK_SECONDS = 5.0


@router.get("/health", response_model=dict[str, str])
@router.get("/livez", response_model=dict[str, str])
async def health() -> dict[str, str]:
    """Say that the process is alive, whatever its parts do."""
    return {"status": "ok"}


def is_draining(request: Request) -> bool:
    """Tell whether the service is stopping."""
    return bool(request.app.state.draining())


async def who(request: Request) -> Caller | None:
    """Return who asks. None is somebody who is refused elsewhere, or whom only the ledger knows, which is away."""
    access: Access = request.app.state.access
    try:
        return await access.caller(request.headers)
    except LockstepError:
        return None


@router.get("/ready", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})
@router.get("/readyz", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})
async def ready(
    pipelines: Known, draining: Annotated[bool, Depends(is_draining)], caller: Annotated[Caller | None, Depends(who)]
) -> Response:
    """Say whether questions can be answered: each pipeline's index, with the reason where not.

    Probes have no key. So everybody learns whether it is ready, and the holder of a key the state of its pipelines.
    """
    default = await pipelines.named(None)
    wanted = {served.name: served for served in (default, *pipelines.served)}
    found = dict(zip(wanted, await asyncio.gather(*map(look, wanted.values())), strict=True))
    parts = [part for name, part in found.items() if caller and caller.sees(name)]
    whole = schemas.Readiness(ready=not draining and all(part.ready for part in found.values()), parts=parts)
    if draining:
        parts.append(schemas.PartState(name="service", ready=False, detail="it is stopping"))
    return Reply(whole.model_dump(), status_code=200 if whole.ready else 503)


async def look(served: Served) -> schemas.PartState:
    """Return how the index of a pipeline is; a part that hangs is waited for some seconds."""
    name = f"{served.name}: index"
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            live = await served.run(lambda _pipeline, connections: connections.store.resolve(), served.searches)
    except TimeoutError:
        error: Exception = TransientError(f"Milvus does not answer within {CHECK_SECONDS:g} seconds")
    except LockstepError as raised:
        error = raised
    else:
        return schemas.PartState(name=name, ready=True, detail=live)
    return schemas.PartState(name=name, ready=False, detail=hidden(str(error)))


@router.get("/metrics", response_class=Response, responses=REFUSALS)
async def prometheus(caller: Calling) -> Response:
    """Return the metrics in Prometheus' format. They name every pipeline: a key for some of them is refused."""
    if caller.key and (caller.key.pipelines or caller.key.tenant):
        raise RequestError("metrics are of all pipelines and tenants, and this key is not", 403, "missing_right")
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)
