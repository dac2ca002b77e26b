"""Queue syncs of a generation: one run of the deployment waits for the writer, further runs end at once.

A limit of Prefect's would keep it too, but not outlive what it has to: a deployment's is a lease in the server's
memory, whose loss kills the run that holds it; a work queue counts the runs that are marked Running, so that one that
died with its machine would let none through for ever. The ledger's leases end by themselves.
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
    """Return whether a schedule or an event of a deployment started this run, and no other run did."""
    return bool(deployment.id) and not flow_run.parent_flow_run_id


def stand_in_line(line: ExitStack, ledger: Database, alias: str, described: str) -> bool:
    """Take the one place in the queue until ``line`` is closed; returns False if another run has it."""
    try:
        line.enter_context(writing(ledger, line_of(alias), described, 0, get_run_logger().info))
    except BusyError:
        return False
    return True


def left(alias: str) -> State[None]:
    """Return the final state of a run that is not needed: another one in the queue has yet to list the bucket."""
    rename_run(f"sync {alias}: left to the run that waits")
    return Completed(name="Skipped", message="Another sync is waiting, and will list the bucket later than this came.")
