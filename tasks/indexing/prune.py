"""Delete what a batch's new chunks replace, and what has gone from the bucket; record what Milvus holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import task

from tasks.crash_points import between
from tasks.ledger.objects import digest, now
from tasks.ledger.quarantine import known_bad
from tasks.milvus.store import KEYS_AT_ONCE
from tasks.models import Cut, Embedded, Failure, ObjectRef
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Tools


MS_AN_HOUR = 3_600_000
NEVER_READ = "the bucket lists this version, but each time it is read says that it changed or is gone"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch: the keys that were written or deleted with their chunks, and the numbers.

    ``failures`` are for the quarantine, ``suspicious`` those of them that may be the sign of an outage;
    ``moved_on`` waits for the next sync.
    """

    done: tuple[tuple[str, int], ...] = ()
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_deleted: int = 0
    failures: tuple[Failure, ...] = ()
    suspicious: tuple[Failure, ...] = ()
    moved_on: int = 0


@task(task_run_name="prune batch {number}", **RETRIED)
def prune(batch: Embedded, tools: Tools, collection: str, number: int) -> int:  # noqa: ARG001 - names the run
    """Delete the chunks that earlier versions of these objects had and these have not; returns how many.

    Runs after the new ones are written, so the last good version is answerable until then.
    """
    tools.check_writer()
    keep = {chunk.id for chunk in batch.cut.chunks}
    deleted = tools.store.prune(collection, [document.ref.key for document in batch.cut.documents], keep)
    between("batch pruned")
    return deleted


def prune_failed(tools: Tools, collection: str, keys: Sequence[str]) -> int:
    """Leave of objects that cannot be indexed just the last version that was confirmed, if it is whole.

    A run that died may have written a part of a version that nobody can read again; returns the chunks deleted.
    """
    deleted = 0
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        rows = tools.store.rows_of(collection, some, ["id", "key", "etag"])
        confirmed = tools.ledger.confirmed(collection, some)
        ids, lost = leftovers(rows, confirmed)
        if ids:
            tools.store.delete(collection, ids)
            deleted += len(ids)
        tools.ledger.lose(collection, lost)
    return deleted


def leftovers(
    rows: Iterable[Mapping[str, str]], confirmed: Mapping[str, tuple[str | None, str | None]]
) -> tuple[list[str], list[str]]:
    """Return the ids that no confirmed version has, and the keys of which no whole version is left.

    ``rows`` are Milvus' (id, key, etag); ``confirmed`` gives the ETag and the digest of the last confirmed
    version by key.
    """
    delete: list[str] = []
    lost: list[str] = []
    held: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for row in rows:
        if row["key"] in confirmed:
            held[row["key"]].append((row["id"], row["etag"] == confirmed[row["key"]][0]))
    for key, (etag, mark) in confirmed.items():
        of_version = [chunk_id for chunk_id, same in held[key] if same]
        whole = etag is not None and digest(of_version) == mark
        delete += [chunk_id for chunk_id, same in held[key] if not (whole and same)]
        if etag is not None and not whole:
            lost.append(key)
    return delete, lost


@task(task_run_name="record batch {number}", **RETRIED)
def record(batch: Embedded, deleted: int, tools: Tools, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Record in the ledger what Milvus confirmed; returns the batch in numbers."""
    tools.check_writer()
    chunks = {document.ref: [chunk.id for chunk in document.chunks] for document in batch.cut.documents}
    failures, moved_on, bad = judged(batch.cut, tools, collection)
    tools.ledger.confirm(collection, chunks, failures, tools.flow_run_id, moved_on)
    between("batch recorded")
    tools.progress.advanced(len(chunks) + len(failures) + len(batch.cut.moved_on))
    return Outcome(
        done=tuple((ref.key, len(ids)) for ref, ids in chunks.items()),
        chunks_embedded=batch.embedded,
        chunks_reused=batch.reused,
        chunks_deleted=deleted,
        failures=failures,
        suspicious=tuple(one for one in failures if not one.unsuitable and one.ref.key not in bad),
        moved_on=len(moved_on),
    )


def judged(cut: Cut, tools: Tools, collection: str) -> tuple[tuple[Failure, ...], tuple[ObjectRef, ...], set[str]]:
    """Return what failed, what moved on, and the keys of which it was known that they would fail.

    A version that is listed for hours and always moves on when it is read has failed.
    """
    if not cut.failures and not cut.moved_on:
        return (), (), set()
    keys = {failure.ref.key for failure in cut.failures}
    withheld = {failure.ref.key for failure in cut.failures if failure.withheld} | {ref.key for ref in cut.moved_on}
    long_ago = now() - int(tools.settings.withheld_hours * MS_AN_HOUR)
    bad = known_bad(tools.ledger, collection, sorted(keys - withheld))
    bad |= known_bad(tools.ledger, collection, sorted(withheld), failing_since=long_ago)
    never_read = [Failure(ref, NEVER_READ, withheld=True) for ref in cut.moved_on if ref.key in bad]
    moved_on = tuple(ref for ref in cut.moved_on if ref.key not in bad)
    return (*cut.failures, *never_read), moved_on, bad


@task(task_run_name="delete batch {number}", **RETRIED)
def delete(refs: Sequence[ObjectRef], tools: Tools, collection: str, number: int) -> Outcome:  # noqa: ARG001
    """Delete all chunks of objects that are, or were, gone; the ledger forgets them when Milvus confirms."""
    tools.check_writer()
    keys = [ref.key for ref in refs]
    deleted = tools.store.prune(collection, keys, keep=set())
    between("gone deleted")
    tools.ledger.forget(collection, keys)
    between("gone forgotten")
    tools.progress.advanced(len(keys))
    return Outcome(done=tuple((key, 0) for key in keys), chunks_deleted=deleted)
