"""Tell Prefect what its automations react to: new objects in quarantine, an index that lags, one that caught up.

    lockstep.objects.quarantined   number, objects (the first keys), collection
    lockstep.index.lagging         seconds, bound_seconds
    lockstep.index.caught_up       seconds, bound_seconds

The resource of each is ``lockstep.pipeline.<name>``. Within a flow, Prefect adds the run, its flow and its deployment.
An event is a hint: Prefect sends it later, and a process that is killed may lose it. The ledger has the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.events import emit_event

from tasks.sanitize import hidden, inert

QUARANTINED = "lockstep.objects.quarantined"
LAGGING = "lockstep.index.lagging"
CAUGHT_UP = "lockstep.index.caught_up"
NAMED = 10
"""Keys that an event names at the most."""


def resource_of(pipeline: str) -> dict[str, str]:
    """Return the resource of a pipeline's events."""
    return {"prefect.resource.id": f"lockstep.pipeline.{pipeline}", "prefect.resource.name": pipeline}


def emit_quarantined(pipeline: str, collection: str, number: int, keys: Sequence[str]) -> None:
    """Tell of a run's new objects in quarantine, if there are any.

    The field is ``objects``, since a template would read ``payload.keys`` as a method.
    """
    if number:
        objects = [inert(hidden(key)) for key in keys[:NAMED]]
        _emit(QUARANTINED, pipeline, {"collection": collection, "number": number, "objects": objects})


def emit_lagging(pipeline: str, seconds: float, bound_seconds: float) -> None:
    """Tell that an index is further behind its bucket than the bound. Call it once for each crossing of the bound."""
    _emit(LAGGING, pipeline, {"seconds": round(seconds, 1), "bound_seconds": bound_seconds})


def emit_caught_up(pipeline: str, seconds: float, bound_seconds: float) -> None:
    """Tell that an index that lagged is within the bound again. Call it once for each crossing of the bound."""
    _emit(CAUGHT_UP, pipeline, {"seconds": round(seconds, 1), "bound_seconds": bound_seconds})


def _emit(event: str, pipeline: str, payload: dict[str, Any]) -> None:
    emit_event(event, resource=resource_of(pipeline), payload=payload)
