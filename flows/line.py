"""Let one run of the deployment wait for the writer of a generation; further runs end at once.

Prefect's concurrency limits would not survive all crashes. A deployment's limit is a lease in the server's memory,
whose loss kills the run that holds it. A work queue counts runs that are marked Running, so a run that died with its
machine would block it for ever. The ledger's leases expire by themselves.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from prefect import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from flows.prefect_runs import rename_run
from tasks.errors import BusyError
from tasks.ledger.lease import line_of, writing

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.ledger.database import Database


def unattended() -> bool:
    """Return whether a deployment started this run, by its schedule or an event, and it has no parent run."""
    return bool(deployment.id) and not flow_run.parent_flow_run_id


def stand_in_line(line: ExitStack, ledger: Database, alias: str, described: str) -> bool:
    """Take the only place in the line until ``line`` is closed. Return False if another run has it."""
    try:
        line.enter_context(writing(ledger, line_of(alias), described, 0, get_run_logger().info))
    except BusyError:
        return False
    return True


def left(alias: str) -> State[None]:
    """Return the final state of a run that is skipped, because a waiting run will list the bucket later anyway."""
    rename_run(f"sync {alias}: left to the run that waits")
    return Completed(name="Skipped", message="Another sync is waiting and will list the bucket after this run began.")
