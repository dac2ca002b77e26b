"""Quarantine the objects that a run could not index, once it is clear that the files are to blame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.crash_points import crash_point
from tasks.ledger.database import digest
from tasks.ledger.objects import clear_confirmed, confirmed_versions, count_objects
from tasks.ledger.quarantine import failed_keys, quarantined, send_to_quarantine
from tasks.milvus.store import KEYS_AT_ONCE
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Resources


@task(name="judge failures", task_run_name="judge failures of {collection}", **RETRIED)
def quarantine_failures(resources: Resources, collection: str) -> int:
    """Quarantine the failures of this run; returns how many."""
    resources.check_writer()
    for keys in failed_keys(resources.ledger, collection, resources.flow_run_id):
        prune_failed(resources, collection, keys)
    crash_point("leftovers deleted")
    quarantined = send_to_quarantine(resources.ledger, collection, resources.flow_run_id)
    crash_point("failures judged")
    return quarantined


def prune_failed(resources: Resources, collection: str, keys: Sequence[str]) -> int:
    """Delete every chunk of failed objects except those of their last confirmed version; return how many.

    A run that died may have written a part of a version that nobody can read again.
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


MANY = 1000
"""Rows that are worth it. What was just written is searched row by row: some thousands slow each search down twentyfold
on Milvus Lite. Fewer than that are left to the server: each time makes a segment of its own."""


@task(name="settle", task_run_name="have what was written to {collection} indexed", **RETRIED)
def flush(resources: Resources, collection: str) -> None:
    """Flush a collection; its index is built while it answers."""
    resources.store.flush(collection)


QUARANTINE_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Totals:
    """Objects by state and ``chunks``, as ``count_objects`` counts them, and the newest of the quarantine."""

    states: dict[str, int]
    quarantined: list[dict[str, Any]]


@task(task_run_name="count {collection}", **RETRIED)
def totals(resources: Resources, collection: str) -> Totals:
    """Return what the ledger holds of a generation."""
    return Totals(
        count_objects(resources.ledger, collection), quarantined(resources.ledger, collection, QUARANTINE_SHOWN)
    )
