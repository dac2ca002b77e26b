"""Change a flow's own run in Prefect: rename it after its outcome, and switch off heartbeats of short runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tasks.retries import patiently

if TYPE_CHECKING:
    from prefect import Task

P = ParamSpec("P")
R = TypeVar("R")


def rename_run(name: str) -> None:
    """Rename the current flow run. Does nothing outside a flow run."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name)


def plainly(step: Task[P, R]) -> Callable[P, R]:
    """Return a task's function with a task's retries, but without a task run."""
    return patiently(step.fn)


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """Switch heartbeats off for the flows called inside, since ending a heartbeat's thread costs up to a second.

    Meant for flows of seconds, and for sub-flows whose parent has a heartbeat. A run that dies without a heartbeat
    stays 'Running' in the UI until somebody cancels it.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
