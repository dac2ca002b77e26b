"""What a generation holds after a sync, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.ledger.quarantine import quarantined
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Tools

QUARANTINE_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Totals:
    """Objects by state and ``chunks``, as ``Ledger.totals`` counts them, and the newest of the quarantine."""

    states: dict[str, int]
    quarantined: list[dict[str, Any]]


@task(task_run_name="count {collection}", **RETRIED)
def totals(tools: Tools, collection: str) -> Totals:
    """Return what the ledger holds of a generation."""
    return Totals(tools.ledger.totals(collection), quarantined(tools.ledger, collection, QUARANTINE_SHOWN))
