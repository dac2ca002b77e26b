"""Write the chunks of a batch to Milvus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from prefect import task

from tasks.crash_points import between
from tasks.embedding.batch import without
from tasks.indexing.write import write_piece
from tasks.models import Embedded
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Tools


@task(task_run_name="upsert batch {number}", **RETRIED)
def upsert(batch: Embedded, tools: Tools, collection: str, number: int) -> Embedded:  # noqa: ARG001 - names the run
    """Write what is left of a batch to write, the last piece of it.

    Returns the batch for the next step, which deletes what these chunks replace.
    """
    failed = write_piece(tools, collection, batch.last())
    between("batch written")
    return replace(batch, cut=without(batch.cut, failed), vectors=batch.vectors[:0], waiting=frozenset())
