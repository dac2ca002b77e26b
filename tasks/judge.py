"""Send to quarantine what a run could not index, once it is clear that the files are to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.between import between
from tasks.prune import prune_failed
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.tools import Tools


@task(name="judge failures", task_run_name="judge failures of {collection}", **RETRIED)
def judge(tools: Tools, collection: str) -> int:
    """Quarantine the failures of this run; returns how many."""
    tools.check_writer()
    prune_failed(tools, collection, [row["key"] for row in tools.ledger.failed(collection, tools.flow_run_id, None)])
    between("leftovers deleted")
    quarantined = tools.ledger.judge(collection, tools.flow_run_id)
    between("failures judged")
    return quarantined
