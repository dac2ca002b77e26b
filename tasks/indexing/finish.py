"""Finish a sync: send failed objects to quarantine, flush the collection, count the generation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.crash_points import crash_point
from tasks.ledger.database import digest
from tasks.ledger.generations import record_write
from tasks.ledger.objects import clear_confirmed, confirmed_versions, count_objects
from tasks.ledger.quarantine import failed_keys, quarantined, send_to_quarantine
from tasks.milvus.store import KEYS_AT_ONCE
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Resources


@task(name="judge failures", task_run_name="judge failures of {collection}", **RETRIED)
def quarantine_failures(resources: Resources, collection: str) -> int:
    """Quarantine the failed objects of this run. Return their number.

    A sync calls this at its end, when no outage explains the failures.
    """
    resources.check_writer()
    for keys in failed_keys(resources.ledger, collection, resources.flow_run_id):
        prune_failed(resources, collection, keys)
    crash_point("leftovers deleted")
    record_write(resources.ledger, collection, resources.store.last_write(collection))
    quarantined = send_to_quarantine(resources.ledger, collection, resources.flow_run_id)
    crash_point("failures judged")
    return quarantined


def prune_failed(resources: Resources, collection: str, keys: Sequence[str]) -> int:
    """Delete every chunk of failed objects except their last confirmed version. Return the number of deleted chunks.

    An incomplete confirmed version is deleted too. A run that died may have written part of a version that cannot
    be read again.
    """
    deleted = 0
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        rows = resources.store.rows_of(collection, some, ["id", "key", "etag"])
        confirmed = confirmed_versions(resources.ledger, collection, some)
        ids, lost = leftovers(rows, confirmed)
        if ids:
            resources.store.delete(collection, ids)
            deleted += len(ids)
        clear_confirmed(resources.ledger, collection, lost)
    return deleted


def leftovers(
    rows: Iterable[Mapping[str, str]], confirmed: Mapping[str, tuple[str | None, str | None]]
) -> tuple[list[str], list[str]]:
    """Return the chunk ids outside complete confirmed versions, and the keys whose confirmed version is incomplete.

    ``rows`` are Milvus' (id, key, etag). ``confirmed`` gives the ETag and the digest of the last confirmed
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


MANY = 1000
"""Rows from which a flush is worth it. Milvus searches unflushed rows one by one: some thousands of them slow each
search down twentyfold on Milvus Lite. Fewer rows are left to the server, since each flush makes a new segment."""


@task(name="settle", task_run_name="have what was written to {collection} indexed", **RETRIED)
def flush(resources: Resources, collection: str) -> None:
    """Flush a collection. Milvus builds its index while the collection keeps answering."""
    resources.store.flush(collection)


QUARANTINE_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Totals:
    """Objects by state and ``chunks``, as ``count_objects`` returns them, and the newest objects in quarantine."""

    states: dict[str, int]
    quarantined: list[dict[str, Any]]


@task(task_run_name="count {collection}", **RETRIED)
def totals(resources: Resources, collection: str) -> Totals:
    """Return the ledger's counts for a generation."""
    return Totals(
        count_objects(resources.ledger, collection), quarantined(resources.ledger, collection, QUARANTINE_SHOWN)
    )
