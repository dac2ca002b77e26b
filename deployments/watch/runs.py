"""Run the deployment of a pipeline's sync in this process: its history is that of the deployment, without its start.

A worker starts a process for each run, which takes 10 s and more. Here everything is loaded. The run is made in the
state Pending, so that no worker takes it: workers look for scheduled runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flow_engine import run_flow
from prefect.states import Crashed, Pending

from flows.prefect_runs import without_heartbeat
from flows.sync import sync
from tasks.errors import PartError, TransientError

if TYPE_CHECKING:
    from tasks.models import SyncReport

ENDED = "Its watcher ended before it did. The next watcher goes on with its work; nothing is lost."
AT_ONCE = 200

logger = logging.getLogger("lockstep.watch")


def tag_of(pipeline: str) -> str:
    """Return the tag of the runs that a pipeline's watcher makes."""
    return f"watcher:{pipeline}"


def run_sync(pipeline: str, keys: Sequence[str] | None) -> SyncReport:
    """Run the sync of some keys, or of the whole bucket, as a run of its deployment. Return its report.

    Raises what the sync raises, ``TransientError`` while Prefect does not answer, and ``PartError`` without a
    deployment.
    """
    parameters: dict[str, Any] = {"pipeline": pipeline} | ({"keys": list(keys)} if keys is not None else {})
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"sync/{pipeline}")
            run = client.create_flow_run_from_deployment(
                deployment.id, state=Pending(), parameters=parameters, tags=[tag_of(pipeline)]
            )
    except ObjectNotFound as error:
        raise PartError(f"Prefect: sync/{pipeline} is not deployed. Run `lockstep up`.") from error
    except (PrefectException, httpx.HTTPError, OSError) as error:
        raise TransientError(f"Prefect: the API does not take a run ({type(error).__name__}). Is it up?") from error
    # A heartbeat's thread costs a second at the end of a run. A run of a watcher that died is ended by the next one.
    with without_heartbeat() if keys is not None else nullcontext():
        report: Any = run_flow(sync, flow_run=run, parameters=parameters)
    return report  # type: ignore[no-any-return]


def end_old_runs(pipeline: str) -> int:
    """Mark the runs Crashed that an earlier watcher of a pipeline left unfinished. Return their number.

    Call it while no other watcher of the pipeline works.
    """
    open_states = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    )
    left = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(pipeline)]), state=open_states)
    ended: set[UUID] = set()
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=left, limit=AT_ONCE):
            for run in runs:
                client.set_flow_run_state(run.id, Crashed(message=ENDED), force=True)
            if ended.issuperset(run.id for run in runs):
                break
            ended |= {run.id for run in runs}
    return len(ended)
