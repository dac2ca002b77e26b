"""Compare bucket, ledger and Milvus, chunk by chunk, in bounded memory.

    bucket ──pages──▶ LISTED ─┐
    Milvus ──rows───▶ HELD ───┼─▶ 1,000 keys at a time ──▶ compare ──▶ findings
    ledger ───────────────────┘

The two listings go into temporary tables of the ledger's database, which sorts them. Python holds the rows of
1,000 keys at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa
from prefect import task

from tasks.bucket.listing import pages
from tasks.crash_points import crash_point
from tasks.generations.fingerprint import fingerprint, fingerprint_of
from tasks.ledger.database import digest
from tasks.ledger.generations import ingredients_of
from tasks.ledger.objects import record_suspects
from tasks.ledger.tables import BYTEWISE, OBJECTS
from tasks.limits import LeftOut
from tasks.task_runs import RETRIED, run_logger

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tasks.ledger.database import Database
    from tasks.resources import Resources

Kind = Literal["missing", "orphaned", "stale", "duplicated"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEYS_AT_ONCE = 1000
ROWS_AT_ONCE = 5000
KEYS_KEPT = 10_000
"""Findings name at most this many keys of each kind. Further keys are only counted."""

_TEMPORARY = sa.MetaData()
LISTED = sa.Table(
    "lockstep_audit_listed",
    _TEMPORARY,
    sa.Column("key", BYTEWISE, primary_key=True),
    sa.Column("etag", sa.String(255)),
    prefixes=["TEMPORARY"],
)
HELD = sa.Table(
    "lockstep_audit_held",
    _TEMPORARY,
    sa.Column("key", BYTEWISE, index=True),
    sa.Column("id", sa.String(64)),
    sa.Column("etag", sa.String(255)),
    sa.Column("position", sa.BigInteger),
    prefixes=["TEMPORARY"],
)


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger's record of an object: ``etag`` is the version to index, ``indexed_etag`` what Milvus confirmed.

    ``chunks`` and ``digest`` describe the confirmed version.
    """

    state: str
    etag: str
    indexed_etag: str | None
    chunks: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """One chunk in Milvus."""

    id: str
    etag: str
    position: int


@dataclass(slots=True)
class Findings:
    """The findings of an audit. ``keys`` by kind, at most 10,000 each; ``counts`` are complete.

    ``fingerprint`` is a sentence when the collection and the ledger have different fingerprints, else empty.
    ``objects`` counts the bucket's objects, ``answering`` counts the objects that have chunks.
    """

    collection: str
    objects: int = 0
    chunks: int = 0
    answering: int = 0
    fingerprint: str = ""
    keys: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in (*KINDS, "quarantined")})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*KINDS, "quarantined"), 0))
    details: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    left_out_named: list[str] = field(default_factory=list)

    @property
    def consistent(self) -> bool:
        """Whether the index agrees with the bucket. Objects in quarantine do not count as inconsistent."""
        return not self.fingerprint and not any(self.counts[kind] for kind in KINDS)

    def add(self, kind: str, key: str, detail: str) -> None:
        """Add a finding."""
        self.counts[kind] += 1
        if len(self.keys[kind]) < KEYS_KEPT:
            self.keys[kind].append(key)
            if detail:
                self.details[key] = detail


def compare_key(etag: str | None, known: Known | None, held: Sequence[Held]) -> tuple[Kind, str] | None:
    """Return the kind of finding for one key and a description, or None if the key is consistent.

    ``etag`` is the version in the bucket, None if the bucket has no such key.
    """
    behind: Kind = "stale" if held else "missing"
    if etag is None:
        place = f"has {len(held)} chunks in Milvus" if held else "is in the ledger"
        return ("orphaned", f"not in the bucket, but {place}") if held or known else None
    if known is None:
        return ("orphaned", f"{len(held)} chunks are unknown to the ledger") if held else ("missing", "not synced")
    if known.state in ("deleting", "returned"):
        return behind, "the deletion of an earlier version is not finished"
    if known.etag != etag or known.state == "pending":
        return behind, "the bucket has a newer version than the index"
    return _chunks(known, held)


def _chunks(known: Known, held: Sequence[Held]) -> tuple[Kind, str] | None:
    """Compare the chunks in Milvus with the version that Milvus confirmed to the ledger."""
    ids = [one.id for one in held]
    right = len(ids) == known.chunks and (known.digest is None or digest(ids) == known.digest)
    other = sum(one.etag != known.indexed_etag for one in held)
    if other and known.indexed_etag:
        return "stale", f"{other} of {len(held)} chunks belong to an earlier version"
    if right:
        return None
    said = f"Milvus holds {len(held)} chunks, the ledger says {known.chunks}"
    if not known.indexed_etag:
        return "orphaned", f"{said}: the object was never indexed"
    if len(ids) != len(set(ids)) or len({one.position for one in held}) < len(held):
        return "duplicated", said
    if len(held) < known.chunks:
        return "missing", said
    return "orphaned", said if len(held) > known.chunks else f"{said}, but with other ids"


def gather(resources: Resources, collection: str) -> Findings:
    """Audit a generation without changing anything."""
    found = Findings(collection, fingerprint=wrong_fingerprint(resources, collection))
    listed = resources.ledger.insert(LISTED).on_conflict_do_nothing()
    with _tables(resources.ledger) as connection:
        left_out = LeftOut()
        for refs in pages(resources.s3, resources.source, left_out):
            # A server may list a key twice, at the border of two pages.
            _insert(connection, listed, [{"key": ref.key, "etag": ref.etag} for ref in refs])
            found.objects += len(refs)
        found.left_out, found.left_out_named = left_out.count, left_out.first
        run_logger().info(f"{found.objects:,} objects listed")
        rows = resources.store.rows(collection, ["id", "key", "etag", "chunk_index"])
        held = ({**{name: row[name] for name in ("id", "key", "etag")}, "position": row["chunk_index"]} for row in rows)
        while piece := list(itertools.islice(held, ROWS_AT_ONCE)):
            _insert(connection, sa.insert(HELD), piece)
            found.chunks += len(piece)
        run_logger().info(f"{found.chunks:,} chunks read")
        for keys in _all_keys(connection, collection):
            _judge_some(connection, collection, keys, found)
    return found


def wrong_fingerprint(resources: Resources, collection: str) -> str:
    """Return a sentence if Milvus and the ledger have different fingerprints of a generation, else an empty string."""
    built = ingredients_of(resources.ledger, collection)
    if built is None:
        return f"the ledger has no record of {collection}"
    said, kept = fingerprint(built), fingerprint_of(resources.store, collection)
    if kept not in (None, said):
        return f"{collection} was created with fingerprint {kept}, the ledger says {said}"
    return ""


def _judge_some(connection: Connection, collection: str, keys: Sequence[str], found: Findings) -> None:
    listing = connection.execute(sa.select(LISTED.c.key, LISTED.c.etag).where(LISTED.c.key.in_(keys)))
    listed = {row.key: row.etag for row in listing}
    columns = [OBJECTS.c[name] for name in ("key", "state", "etag", "indexed_etag", "chunks", "digest")]
    rows = connection.execute(sa.select(*columns).where(OBJECTS.c.collection == collection, OBJECTS.c.key.in_(keys)))
    ledger = {row[0]: Known(*row[1:]) for row in rows}
    held: dict[str, list[Held]] = {}
    query = sa.select(HELD.c.key, HELD.c.id, HELD.c.etag, HELD.c.position).where(HELD.c.key.in_(keys))
    for key, *chunk in connection.execute(query):
        held.setdefault(key, []).append(Held(*chunk))
    connection.commit()
    found.answering += len(held)
    for key in keys:
        if wrong := compare_key(listed.get(key), ledger.get(key), held.get(key, [])):
            found.add(wrong[0], key, wrong[1])
        if key in listed and key in ledger and ledger[key].state == "quarantined":
            found.add("quarantined", key, "")


def _all_keys(connection: Connection, collection: str) -> Iterator[list[str]]:
    """Yield all keys of bucket, ledger and Milvus, sorted, at most 1,000 at a time."""
    last = ""
    while True:
        sides = [
            sa.select(table.c.key)
            .distinct()
            .where(table.c.key > last, *more)
            .order_by(table.c.key)
            .limit(KEYS_AT_ONCE)
            .subquery()
            .select()
            for table, more in ((LISTED, ()), (HELD, ()), (OBJECTS, (OBJECTS.c.collection == collection,)))
        ]
        every = sa.union(*sides).subquery()
        query = sa.select(every.c.key).order_by(every.c.key).limit(KEYS_AT_ONCE)
        keys = list(connection.execute(query).scalars())
        if not keys:
            return
        yield keys
        last = keys[-1]


@contextmanager
def _tables(ledger: Database) -> Iterator[Connection]:
    with ledger.connected() as connection:
        with connection.begin():
            _TEMPORARY.create_all(connection, checkfirst=False)
        try:
            yield connection
        except BaseException:
            connection.invalidate()  # drops the tables with the connection, even if the server is down
            raise
        connection.rollback()
        with connection.begin():
            _TEMPORARY.drop_all(connection, checkfirst=False)


def _insert(connection: Connection, statement: Any, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        with connection.begin():
            connection.execute(statement, rows)


@task(name="look", task_run_name="look at {collection}", **RETRIED)
def look(resources: Resources, collection: str) -> Findings:
    """Audit a generation. After a transient error of any part the audit starts again."""
    return gather(resources, collection)


@task(name="doubt", task_run_name="record what is wrong in {collection}", **RETRIED)
def record_findings(resources: Resources, collection: str, found: Findings) -> int:
    """Record the findings of an audit as work for the next sync. Return the number of objects."""
    keys = sorted({key for kind in KINDS for key in found.keys[kind]})
    record_suspects(resources.ledger, collection, keys, resources.flow_run_id)
    crash_point("doubts recorded")
    return len(keys)
