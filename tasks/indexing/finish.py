"""Send to quarantine what a run could not index, once it is clear that the files are to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.crash_points import between
from tasks.indexing.prune import prune_failed
from tasks.ledger.quarantine import failed_keys, send_to_quarantine
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Tools


@task(name="judge failures", task_run_name="judge failures of {collection}", **RETRIED)
def judge(tools: Tools, collection: str) -> int:
    """Quarantine the failures of this run; returns how many."""
    tools.check_writer()
    for keys in failed_keys(tools.ledger, collection, tools.flow_run_id):
        prune_failed(tools, collection, keys)
    between("leftovers deleted")
    quarantined = send_to_quarantine(tools.ledger, collection, tools.flow_run_id)
    between("failures judged")
    return quarantined
