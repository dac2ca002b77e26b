"""The ledger's rows of objects: what each generation holds, and what is about to change.

An object's row goes through these states:

    pending ──▶ indexed          wanted: recorded before Milvus is written to, confirmed afterwards
     ▲  │   └──▶ quarantined     cannot be indexed as it is; the last good chunks, if any, stay
     │  ▼
     │ deleting ──▶ (no row)     gone from the bucket: deleted from Milvus first, then from the ledger
     │  ▼
     └─ returned                 back before the deletion was done: its old chunks are still deleted first

Rows in ``pending``, ``deleting`` and ``returned`` are open work, whichever run recorded them. So the next sync
finishes the work of one that died. A ``pending`` row with a reason could not be indexed in the run that wrote
it. It goes to quarantine when that run is judged (:mod:`tasks.ledger.quarantine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import sqlalchemy as sa

from tasks.ledger.database import Database, digest, now
from tasks.ledger.tables import OBJECTS, starts_with
from tasks.models import Failure, ObjectRef

REF = ["key", "etag", "size", "last_modified"]
ROWS_AT_ONCE = 500
REASON_LENGTH = 1000


class ObjectRow(NamedTuple):
    """What a row says of an object: its state, the wanted version, and the version that Milvus confirmed.

    ``asked_at`` is when a sync of keys recorded the wanted one (ms since 1970, by the database's clock).
    """

    state: str
    etag: str
    size: int
    indexed_etag: str | None
    asked_at: int | None = None


ROW = [OBJECTS.c[name] for name in ObjectRow._fields]


def object_rows(ledger: Database, collection: str, keys: Sequence[str]) -> dict[str, ObjectRow]:
    """Return the rows of the given keys, by key."""
    query = sa.select(OBJECTS.c.key, *ROW).where(OBJECTS.c.collection == collection, OBJECTS.c.key.in_(list(keys)))
    with ledger.transaction() as connection:
        return {key: ObjectRow(*row) for key, *row in connection.execute(query)}


def rows_between(ledger: Database, collection: str, after: str, upto: str | None, limit: int) -> dict[str, ObjectRow]:
    """Return the first rows, at most ``limit``, of the keys after one key, up to another or to the end, by key."""
    query = sa.select(OBJECTS.c.key, *ROW).where(OBJECTS.c.collection == collection, OBJECTS.c.key > after)
    if upto is not None:
        query = query.where(OBJECTS.c.key <= upto)
    with ledger.transaction() as connection:
        rows = connection.execute(query.order_by(OBJECTS.c.key).limit(limit))
        return {key: ObjectRow(*row) for key, *row in rows}


def every_nth_key(ledger: Database, collection: str, number: int) -> list[str]:
    """Return every ``number``-th key of a generation: the keys that cut it into equal ranges."""
    cuts: list[str] = []
    query = sa.select(OBJECTS.c.key).where(OBJECTS.c.collection == collection).order_by(OBJECTS.c.key)
    with ledger.transaction() as connection:
        after = ""
        while key := connection.execute(query.where(OBJECTS.c.key > after).offset(number - 1).limit(1)).scalar():
            cuts.append(after := key)
    return cuts


def record_wanted(
    ledger: Database, collection: str, refs: Sequence[ObjectRef], flow_run_id: str, *, asked: bool = False
) -> None:
    """Record that these versions are wanted. Call it before any of their chunks is written.

    ``asked`` says that the bucket was asked for each of the keys, so that no listing is newer.
    """
    wanted = [
        {**asdict(ref), "collection": collection, "state": "pending", "chunks": 0, "attempts": 0,
         "updated_at": now(), "flow_run_id": flow_run_id}
        for ref in refs
    ]  # fmt: skip
    insert = ledger.insert(OBJECTS).values(known_at=ledger.clock, asked_at=ledger.clock if asked else None)
    kept = {name: insert.excluded[name] for name in (*REF[1:], "updated_at", "flow_run_id")}
    gone = sa.or_(OBJECTS.c.state == "deleting", OBJECTS.c.state == "returned")
    same = OBJECTS.c.etag == insert.excluded.etag
    updated = {
        **kept,
        "state": sa.case((gone, "returned"), else_="pending"),
        "reason": None,
        "attempts": sa.case((same, OBJECTS.c.attempts), else_=0),
        "since": sa.case((same, OBJECTS.c.since), else_=None),
        "failed_at": sa.case((same, OBJECTS.c.failed_at), else_=None),
        "known_at": _known_since(insert.excluded.known_at),
        "asked_at": insert.excluded.asked_at,
    }
    statement = insert.on_conflict_do_update(index_elements=["collection", "key"], set_=updated)
    with ledger.transaction() as connection:
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            connection.execute(statement, wanted[start : start + ROWS_AT_ONCE])


def record_deletions(ledger: Database, collection: str, keys: Sequence[str], flow_run_id: str) -> None:
    """Record that these objects are gone. Call it before any of their chunks is deleted."""
    values = {"updated_at": now(), "flow_run_id": flow_run_id, "known_at": _known_since(ledger.clock)}
    _update(ledger, collection, keys, state="deleting", **values)


def confirmed_versions(
    ledger: Database, collection: str, keys: Sequence[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Return the ETag and the digest of the last version that Milvus confirmed, by key."""
    query = sa.select(OBJECTS.c.key, OBJECTS.c.indexed_etag, OBJECTS.c.digest).where(
        OBJECTS.c.collection == collection, OBJECTS.c.key.in_(list(keys))
    )
    with ledger.transaction() as connection:
        return {key: (etag, mark) for key, etag, mark in connection.execute(query).tuples()}


def clear_confirmed(ledger: Database, collection: str, keys: Sequence[str]) -> None:
    """Record that no whole version of these objects is left in Milvus."""
    if keys:
        _update(ledger, collection, keys, indexed_etag=None, chunks=0, digest=None)


def record_suspects(ledger: Database, collection: str, keys: Iterable[str], flow_run_id: str) -> None:
    """Record that the generation's chunks of these keys are in doubt, whether the keys have a row or not.

    The next sync reads those again that are in the bucket, and deletes the others.
    """
    record_wanted(ledger, collection, [ObjectRef(key, "", 0, 0) for key in keys], flow_run_id)


def confirm_indexed(
    ledger: Database,
    collection: str,
    chunks: Mapping[ObjectRef, Sequence[str]],
    failures: Sequence[Failure],
    flow_run_id: str,
    moved_on: Sequence[ObjectRef] = (),
) -> None:
    """Record, in one transaction, the ids that Milvus now holds of a batch, and why other objects failed.

    ``moved_on`` counts as a failed attempt, because an object that always moves on would never be read.
    """
    stamp = {"updated_at": now(), "flow_run_id": flow_run_id}
    failing = {"attempts": OBJECTS.c.attempts + 1, "failed_at": sa.func.coalesce(OBJECTS.c.failed_at, now())}
    with ledger.transaction() as connection:
        for ref, ids in chunks.items():
            done = {"state": "indexed", "indexed_etag": ref.etag, "chunks": len(ids), "digest": digest(ids)}
            settled = {"reason": None, "attempts": 0, "since": None, "failed_at": None, "withheld": None}
            connection.execute(_of(collection, ref), {**done, **settled, **stamp})
        for failure in failures:
            reason = failure.reason.encode("utf-8", "replace").decode().replace("\x00", "")[:REASON_LENGTH]
            update = _of(collection, failure.ref).values(failing)
            connection.execute(update, {"reason": reason, "withheld": failure.withheld, **stamp})
        for ref in moved_on:
            connection.execute(_of(collection, ref).values(failing))


def forget_objects(ledger: Database, collection: str, keys: Sequence[str]) -> None:
    """Remove the rows of objects whose chunks are deleted. Objects that returned meanwhile become pending, as new."""
    of_these = (OBJECTS.c.collection == collection, OBJECTS.c.key.in_(list(keys)))
    as_new = {"state": "pending", "indexed_etag": None, "chunks": 0, "digest": None}
    with ledger.transaction() as connection:
        connection.execute(sa.delete(OBJECTS).where(*of_these, OBJECTS.c.state == "deleting"))
        connection.execute(sa.update(OBJECTS).where(*of_these, OBJECTS.c.state == "returned").values(as_new))


def count_objects(ledger: Database, collection: str, start: str = "") -> dict[str, int]:
    """Return the number of objects in each state, and under ``chunks`` the number of confirmed chunks.

    ``start`` limits the count to the keys that start with it.
    """
    query = (
        sa.select(OBJECTS.c.state, sa.func.count(), sa.func.sum(OBJECTS.c.chunks))
        .where(OBJECTS.c.collection == collection, starts_with(start))
        .group_by(OBJECTS.c.state)
    )
    with ledger.transaction() as connection:
        rows = connection.execute(query).all()
    return {"chunks": sum(int(row[2] or 0) for row in rows), **{row[0]: int(row[1]) for row in rows}}


def count_answering(ledger: Database, collection: str) -> int:
    """Return how many objects have a version that Milvus confirmed and that is not to be deleted."""
    query = sa.select(sa.func.count()).where(
        OBJECTS.c.collection == collection,
        OBJECTS.c.indexed_etag.is_not(None),
        OBJECTS.c.state.not_in(["deleting", "returned"]),
    )
    with ledger.transaction() as connection:
        return int(connection.execute(query).scalar_one())


def versions_held(ledger: Database, collection: str, etags: Sequence[str], except_for: Sequence[str]) -> set[str]:
    """Return those of some versions that other objects than ``except_for`` have, or are wanted to have."""
    found: set[str] = set()
    with ledger.transaction() as connection:
        for start in range(0, len(etags), ROWS_AT_ONCE):
            some = list(etags[start : start + ROWS_AT_ONCE])
            query = sa.select(OBJECTS.c.etag).where(
                OBJECTS.c.collection == collection,
                OBJECTS.c.state.in_(["pending", "indexed", "quarantined", "returned"]),
                OBJECTS.c.etag.in_(some),
                OBJECTS.c.key.not_in(list(except_for)),
            )
            found |= set(connection.execute(query).scalars())
    return found


def not_arrived(ledger: Database, collection: str, keys: Sequence[str] | None = None) -> tuple[list[str], int]:
    """Return the keys to be deleted whose bytes still wait under another key, and how many objects answer.

    ``keys`` limits the first to some keys. The number includes all objects that are to be deleted.
    """
    other = OBJECTS.alias()
    same = sa.and_(other.c.collection == collection, other.c.etag == OBJECTS.c.indexed_etag)
    there = sa.and_(same, other.c.state == "indexed")
    waits = sa.and_(same, other.c.state.in_(["pending", "quarantined"]))
    query = (
        sa.select(OBJECTS.c.key)
        .where(OBJECTS.c.collection == collection, OBJECTS.c.state == "deleting")
        .where(sa.exists().where(waits), ~sa.exists().where(there))
        .order_by(OBJECTS.c.key)
    )
    if keys is not None:
        query = query.where(OBJECTS.c.key.in_(list(keys)))
    with ledger.transaction() as connection:
        leaving = list(connection.execute(query).scalars())
    return leaving, count_answering(ledger, collection) + count_objects(ledger, collection).get("deleting", 0)


def change_mark(ledger: Database, collection: str) -> str:
    """Return a mark that differs after every sync that changed anything: rows, time of the last write, chunks."""
    columns = (sa.func.count(), sa.func.max(OBJECTS.c.updated_at), sa.func.sum(OBJECTS.c.chunks))
    with ledger.transaction() as connection:
        return ":".join(
            str(one) for one in connection.execute(sa.select(*columns).where(OBJECTS.c.collection == collection)).one()
        )


def _known_since(clock: Any) -> sa.ColumnElement[int]:
    """Return since when there is work for an object: since before, if it waits already, else since now."""
    waits = sa.or_(*(OBJECTS.c.state == state for state in ("pending", "deleting", "returned")))
    return sa.case((waits, sa.func.coalesce(OBJECTS.c.known_at, clock)), else_=clock)


def _update(ledger: Database, collection: str, keys: Sequence[str], **values: Any) -> None:
    with ledger.transaction() as connection:
        for start in range(0, len(keys), ROWS_AT_ONCE):
            chosen = OBJECTS.c.key.in_(list(keys[start : start + ROWS_AT_ONCE]))
            connection.execute(sa.update(OBJECTS).where(OBJECTS.c.collection == collection, chosen).values(values))


def _of(collection: str, ref: ObjectRef) -> sa.Update:
    # Only if this version is still wanted: a later listing may have recorded another.
    return sa.update(OBJECTS).where(
        OBJECTS.c.collection == collection, OBJECTS.c.key == ref.key, OBJECTS.c.etag == ref.etag
    )
