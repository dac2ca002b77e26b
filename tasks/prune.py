"""Delete what a batch's new chunks replace, and what has gone from the bucket; record what Milvus holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import task

from tasks.models import Embedded, Failure, ObjectRef
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.tools import Tools


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch: the keys that were written or deleted with their chunks, and the numbers.

    ``failures`` went to quarantine, ``moved_on`` waits for the next sync.
    """

    done: tuple[tuple[str, int], ...] = ()
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_deleted: int = 0
    failures: tuple[Failure, ...] = ()
    moved_on: int = 0


@task(task_run_name="prune batch {number}", **RETRIED)
def prune(batch: Embedded, tools: Tools, collection: str, number: int) -> int:  # noqa: ARG001 - names the run
    """Delete the chunks that earlier versions of these objects had and these have not; returns how many.

    Runs after the new ones are written, so the last good version is answerable until then.
    """
    tools.check_writer()
    keep = {chunk.id for chunk in batch.cut.chunks}
    return tools.store.prune(collection, [document.ref.key for document in batch.cut.documents], keep)


@task(task_run_name="record batch {number}", **RETRIED)
def record(batch: Embedded, deleted: int, tools: Tools, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Record in the ledger what Milvus confirmed; returns the batch in numbers."""
    tools.check_writer()
    chunks = {document.ref: len(document.chunks) for document in batch.cut.documents}
    tools.ledger.confirm(collection, chunks, batch.cut.failures, tools.flow_run_id)
    tools.progress.advanced(len(chunks) + len(batch.cut.failures) + len(batch.cut.moved_on))
    return Outcome(
        done=tuple((ref.key, count) for ref, count in chunks.items()),
        chunks_embedded=batch.embedded,
        chunks_reused=batch.reused,
        chunks_deleted=deleted,
        failures=batch.cut.failures,
        moved_on=len(batch.cut.moved_on),
    )


@task(task_run_name="delete batch {number}", **RETRIED)
def delete(refs: Sequence[ObjectRef], tools: Tools, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Delete all chunks of objects that are gone; the ledger forgets them when Milvus confirms."""
    tools.check_writer()
    keys = [ref.key for ref in refs]
    deleted = tools.store.prune(collection, keys, keep=set())
    tools.ledger.forget(collection, keys)
    tools.progress.advanced(len(keys))
    return Outcome(done=tuple((key, 0) for key in keys), chunks_deleted=deleted)
