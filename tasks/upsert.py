"""Write the chunks of a batch to Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.between import between
from tasks.ledger import now
from tasks.models import Embedded
from tasks.retries import RETRIED
from tasks.rows import Columns, to_rows

if TYPE_CHECKING:
    from tasks.tools import Tools


@task(task_run_name="upsert batch {number}", **RETRIED)
def upsert(batch: Embedded, tools: Tools, collection: str, number: int) -> Embedded:  # noqa: ARG001 - names the run
    """Write a batch's chunks; ids follow from what they hold, so writing them again changes nothing.

    Returns the batch for the next step, which deletes what these chunks replace.
    """
    tools.check_writer()
    columns = Columns(tools.store.abilities.bm25, tools.settings.tenants, tools.source.prefix)
    tools.store.upsert(collection, to_rows(batch, now(), tools.flow_run_id, columns))
    between("batch written")
    return batch
