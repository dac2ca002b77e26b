"""Call a short flow without Prefect's heartbeat thread, whose end costs up to a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """Switch heartbeats off for the flows called inside.

    Meant for flows of seconds, and for sub-flows whose parent has a heartbeat: a run that dies without
    one stays 'Running' in the UI until somebody cancels it.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
