"""The resources: the state of each pipeline, and what is in its quarantine.

A key with a tenant sees the numbers and keys of its tenant alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from deployments.server.errors import RequestError
from deployments.server.mcp.tools import own_default
from deployments.server.observability.index_state import look
from tasks.errors import LockstepError
from tasks.generations.fingerprint import built_in, with_settings_of
from tasks.indexing.quarantine import as_json
from tasks.ledger.quarantine import quarantined

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.access.caller import Caller
    from deployments.server.pipelines import Pipelines, Served
    from tasks.retrieval.routing import Connections

QUARANTINE = "lockstep://quarantine"
STATE_OF, QUARANTINE_OF = "lockstep://pipelines/{name}", "lockstep://pipelines/{name}/quarantine"
NAMED = re.compile(r"lockstep://pipelines/(?P<name>[^/]+)(?P<quarantine>/quarantine)?")
MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an address names: the state of a pipeline, or its quarantine. No name means the caller's default."""

    what: Literal["state", "quarantine"]
    pipeline: str | None = None


def wanted(uri: str) -> Wanted | None:
    """Return what an address names; None if it is no address of ours."""
    if uri == QUARANTINE:
        return Wanted("quarantine")
    match = NAMED.fullmatch(uri)
    return Wanted("quarantine" if match["quarantine"] else "state", match["name"]) if match else None


async def read(uri: str, caller: Caller, pipelines: Pipelines) -> dict[str, Any]:
    """Return a resource. Raises ``RequestError`` 404 for an address that names none."""
    resource = wanted(uri)
    if resource is None:
        raise RequestError(
            f"there is no resource '{uri}'. There are {STATE_OF}, {QUARANTINE_OF} and {QUARANTINE}.",
            404,
            "resource_not_found",
            "uri",
        )
    served = await caller.pipeline(pipelines, resource.pipeline or own_default(caller, pipelines), "read")
    if resource.what == "quarantine":
        return await quarantine_of(served, caller)
    return await state_of(served, caller)


async def state_of(served: Served, caller: Caller) -> dict[str, Any]:
    """Return what `GET /state` returns: which generation answers, what it holds, and when it was last in step."""

    def work(pipeline: Pipeline, connections: Connections) -> dict[str, Any]:
        return look(served.name, pipeline, connections, caller).model_dump()

    return await served.run(work, served.searches)


async def quarantine_of(served: Served, caller: Caller) -> dict[str, Any]:
    """Return the objects of a pipeline that cannot be indexed, newest first, and why."""

    def work(pipeline: Pipeline, connections: Connections) -> dict[str, Any]:
        collection, start = held(pipeline, connections, caller)
        if isinstance(connections.ledger, LockstepError):
            raise connections.ledger
        rows = quarantined(connections.ledger, collection, MOST_LISTED, start)
        return {"pipeline": served.name, "generation": collection, "quarantined": [as_json(row) for row in rows]}

    return await served.run(work, served.searches)


def held(pipeline: Pipeline, connections: Connections, caller: Caller) -> tuple[str, str]:
    """Return the live generation, and how the keys begin that the caller may see in it.

    Raises ``MisuseError`` for a key whose tenant does not fit the generation, as a search does.
    """
    collection = connections.store.resolve()
    if caller.key is None:
        return collection, ""
    tenants = with_settings_of(pipeline, built_in(connections.properties(collection))).settings.tenants
    scope = caller.scope("", "")
    scope.condition(tenants)
    return collection, f"{pipeline.source.prefix}{scope.tenant}/" if tenants else ""
