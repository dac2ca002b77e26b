"""The steps of a batch: parse, chunk, embed, upsert, prune, record; and delete for deleted objects."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from prefect import task
from prefect.runtime import task_run

from tasks.crash_points import crash_point
from tasks.documents.chunk import cut_document
from tasks.documents.spool import Spool
from tasks.embedding.batch import embed_batch, without
from tasks.errors import PermanentError
from tasks.indexing.outcome import Outcome
from tasks.indexing.read import parse_batch
from tasks.indexing.write import write_piece
from tasks.ledger.database import now
from tasks.ledger.generations import record_write
from tasks.ledger.objects import confirm_indexed, forget_objects
from tasks.ledger.quarantine import known_bad
from tasks.models import ChunkedBatch, CutDocument, EmbeddedBatch, Failure, ObjectRef, ParsedBatch
from tasks.retries import TRIES, patiently
from tasks.task_runs import ONCE, RETRIED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.resources import Resources

MS_AN_HOUR = 3_600_000
NEVER_READ = "the bucket lists this version, but on each read answers that it changed or is gone"
_cutting = threading.Lock()
"""Held while a document is cut. The tokenizer uses all cores already, and each document takes memory of its own."""


@task(task_run_name="parse batch {number}", **RETRIED)
def parse(refs: Sequence[ObjectRef], resources: Resources, number: int) -> ParsedBatch:  # noqa: ARG001 - names the run
    """Fetch and parse a batch of objects. Transient errors of the bucket are retried."""
    last_try = (task_run.run_count or 1) > RETRIED["retries"]
    return parse_batch(refs, resources.s3, resources.source, resources.isolated, last_try)


def parse_plainly(refs: Sequence[ObjectRef], resources: Resources) -> ParsedBatch:
    """Fetch and parse a batch of objects without a task run, with the same retries."""
    tries = iter(range(1, TRIES + 1))

    @patiently
    def once() -> ParsedBatch:
        return parse_batch(refs, resources.s3, resources.source, resources.isolated, next(tries) == TRIES)

    return once()


@task(task_run_name="chunk batch {number}", **ONCE)
def chunk(parsed: ParsedBatch, resources: Resources, number: int) -> ChunkedBatch:  # noqa: ARG001 - names the run
    """Cut the documents of a batch into chunks. Return them with the failures so far."""
    documents: list[CutDocument] = []
    failures = list(parsed.failures)
    spool = Spool()
    for document in parsed.documents:
        try:
            with _cutting:
                documents.append(cut_document(document, resources.settings, resources.measure, spool.keep))
        except PermanentError as error:
            failures.append(Failure(document.ref, str(error)))
        except Exception as error:  # noqa: BLE001 - one document that cannot be cut must not stop its neighbours
            failures.append(Failure(document.ref, f"its text cannot be cut into chunks: {error}"))
    return ChunkedBatch(tuple(documents), tuple(failures), parsed.moved_on)


def known_vectors(resources: Resources, collection: str, hashes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the vectors that Milvus has, by text hash: of this generation, else of ``resources.donor``."""
    found = resources.store.known_vectors(collection, hashes)
    if resources.donor:
        found.update(resources.store.known_vectors(resources.donor, [one for one in hashes if one not in found]))
    return found


@task(task_run_name="embed batch {number}", **RETRIED)
def embed(cut: ChunkedBatch, resources: Resources, collection: str, number: int) -> EmbeddedBatch:  # noqa: ARG001 - names the run
    """Return a batch with its vectors. Only texts without a known vector are embedded.

    A large batch is written in pieces during this step, except for its last piece.
    """
    find, put = partial(known_vectors, resources, collection), partial(write_piece, resources, collection)
    return embed_batch(cut, resources.model, find, put)


@task(task_run_name="upsert batch {number}", **RETRIED)
def upsert(batch: EmbeddedBatch, resources: Resources, collection: str, number: int) -> EmbeddedBatch:  # noqa: ARG001 - names the run
    """Write the last piece of a batch.

    Returns the batch for the next step, which deletes the chunks that these replace.
    """
    failed = write_piece(resources, collection, batch.last())
    crash_point("batch written")
    return replace(batch, cut=without(batch.cut, failed), vectors=batch.vectors[:0], waiting=frozenset())


@task(task_run_name="prune batch {number}", **RETRIED)
def prune(batch: EmbeddedBatch, resources: Resources, collection: str, number: int) -> int:  # noqa: ARG001 - names the run
    """Delete the chunks that only earlier versions of these objects had. Return their number.

    Runs after the new chunks are written, so the last good version is answerable until then.
    """
    resources.check_writer()
    keep = {chunk.id for chunk in batch.cut.chunks}
    deleted = resources.store.prune(collection, [document.ref.key for document in batch.cut.documents], keep)
    crash_point("batch pruned")
    return deleted


@task(task_run_name="record batch {number}", **RETRIED)
def record(batch: EmbeddedBatch, deleted: int, resources: Resources, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Record in the ledger what Milvus confirmed. Return the outcome of the batch."""
    resources.check_writer()
    chunks = {document.ref: [chunk.id for chunk in document.chunks] for document in batch.cut.documents}
    failures, moved_on, bad = judged(batch.cut, resources, collection)
    record_write(resources.ledger, collection, resources.store.last_write(collection))
    confirm_indexed(resources.ledger, collection, chunks, failures, resources.flow_run_id, moved_on)
    crash_point("batch recorded")
    resources.progress.advanced(len(chunks) + len(failures) + len(batch.cut.moved_on))
    return Outcome(
        done=tuple((ref.key, len(ids)) for ref, ids in chunks.items()),
        chunks_embedded=batch.embedded,
        chunks_reused=batch.reused,
        chunks_deleted=deleted,
        failures=failures,
        suspicious=tuple(one for one in failures if not one.unsuitable and one.ref.key not in bad),
        moved_on=len(moved_on),
    )


def judged(
    cut: ChunkedBatch, resources: Resources, collection: str
) -> tuple[tuple[Failure, ...], tuple[ObjectRef, ...], set[str]]:
    """Return the failures, the objects that moved on, and the keys that were known to fail.

    A version fails if it has been listed for ``withheld_hours`` and moved on at every read.
    """
    if not cut.failures and not cut.moved_on:
        return (), (), set()
    keys = {failure.ref.key for failure in cut.failures}
    withheld = {failure.ref.key for failure in cut.failures if failure.withheld} | {ref.key for ref in cut.moved_on}
    long_ago = now() - int(resources.settings.withheld_hours * MS_AN_HOUR)
    bad = known_bad(resources.ledger, collection, sorted(keys - withheld))
    bad |= known_bad(resources.ledger, collection, sorted(withheld), failing_since=long_ago)
    never_read = [Failure(ref, NEVER_READ, withheld=True) for ref in cut.moved_on if ref.key in bad]
    moved_on = tuple(ref for ref in cut.moved_on if ref.key not in bad)
    return (*cut.failures, *never_read), moved_on, bad


@task(task_run_name="delete batch {number}", **RETRIED)
def delete(refs: Sequence[ObjectRef], resources: Resources, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Delete all chunks of objects that were deleted from the bucket. Then delete their rows from the ledger."""
    resources.check_writer()
    keys = [ref.key for ref in refs]
    deleted = resources.store.prune(collection, keys, keep=set())
    crash_point("gone deleted")
    record_write(resources.ledger, collection, resources.store.last_write(collection))
    forget_objects(resources.ledger, collection, keys)
    crash_point("gone forgotten")
    resources.progress.advanced(len(keys))
    return Outcome(done=tuple((key, 0) for key in keys), chunks_deleted=deleted)
