"""The ledger's record of each generation: when it was ready, promoted and retired, and what it cost.

Only the alias decides which generation is live. :func:`follow_alias_in_ledger` copies that into the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from tasks.crash_points import crash_point
from tasks.ledger.database import clock_of, now
from tasks.ledger.tables import GENERATIONS, OBJECTS, WRITERS
from tasks.retries import patiently

if TYPE_CHECKING:
    from tasks.ledger.database import Database

State = Literal["building", "ready", "live", "retired"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation. Times are in ms since 1970. ``gates`` are rows of :meth:`tasks.evaluation.gates.Gate.as_row`.

    ``search_params`` are its search parameters, None if they were not recorded. ``quality`` holds its metrics on the
    golden questions. ``forced`` says who promoted it although a gate had failed, and why.
    """

    collection: str
    fingerprint: str
    ingredients: dict[str, Any]
    created_at: int
    ready_at: int | None
    promoted_at: int | None
    retired_at: int | None
    chunks_embedded: int
    chunks_reused: int
    seconds: float
    gates: list[dict[str, Any]]
    search_params: dict[str, Any] | None
    quality: dict[str, float]
    forced: dict[str, str] | None

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(self.collection.rsplit("_g", 1)[1])

    @property
    def settled(self) -> bool:
        """Whether the ledger says that the generation is live."""
        return self.promoted_at is not None and self.retired_at is None

    def state(self, live: str | None) -> State:
        """Return the generation's state, given that the alias points at ``live``."""
        if self.collection == live:
            return "live"
        if self.retired_at or self.promoted_at:
            return "retired"
        return "ready" if self.ready_at else "building"


@patiently
def generations(ledger: Database, alias: str) -> list[Generation]:
    """Return the generations of an alias, newest first."""
    columns = [GENERATIONS.c[name] for name in Generation.__slots__]
    with ledger.transaction() as connection:
        rows = connection.execute(sa.select(*columns).where(GENERATIONS.c.alias == alias)).mappings().all()
    empty: dict[str, Any] = {"chunks_embedded": 0, "chunks_reused": 0, "seconds": 0.0, "gates": [], "quality": {}}
    given = ({name: value for name, value in row.items() if value is not None} for row in rows)
    unset: dict[str, Any] = dict.fromkeys(Generation.__slots__)
    found = [Generation(**{**unset, **empty, **row}) for row in given]
    return sorted(found, key=lambda one: one.number, reverse=True)


def generation_of(ledger: Database, alias: str, collection: str) -> Generation | None:
    """Return the ledger's record of a collection, or None if there is none."""
    return next((one for one in generations(ledger, alias) if one.collection == collection), None)


def add_cost(ledger: Database, collection: str, embedded: int, reused: int, seconds: float) -> None:
    """Add the cost of a sync to a generation that is being built."""
    costs = {"chunks_embedded": embedded, "chunks_reused": reused, "seconds": seconds}
    added = {name: sa.func.coalesce(GENERATIONS.c[name], 0) + value for name, value in costs.items()}
    _update(ledger, GENERATIONS.c.collection == collection, **added)


def mark_ready(ledger: Database, collection: str) -> None:
    """Record that a generation holds all objects of the bucket."""
    _update(ledger, GENERATIONS.c.collection == collection, ready_at=now())
    crash_point("marked ready")


@dataclass(frozen=True, slots=True)
class InStep:
    """When a generation was in step with its bucket, in ms since 1970; None where it is not known."""

    synced_at: int | None = None
    """When the last sync that ended well began to list the bucket. The index holds the bucket as it was then."""
    audited_at: int | None = None
    """When the last audit that found no difference began."""


def record_sync(ledger: Database, collection: str, began: int) -> None:
    """Record that a sync ended well, which began to list the bucket at that time (ms since 1970)."""
    _update(ledger, GENERATIONS.c.collection == collection, synced_at=began, lost=0)


def lost_since_listing(ledger: Database, collection: str) -> int:
    """Return how many objects syncs of keys have deleted for good since the last whole listing."""
    query = sa.select(GENERATIONS.c.lost).where(GENERATIONS.c.collection == collection)
    with ledger.transaction() as connection:
        return connection.execute(query).scalar() or 0


def add_lost(ledger: Database, collection: str, number: int) -> None:
    """Add objects that a sync of keys is about to delete for good. Objects that came instead are a negative number."""
    if number:
        more = sa.func.coalesce(GENERATIONS.c.lost, 0) + number
        _update(ledger, GENERATIONS.c.collection == collection, lost=sa.case((more < 0, 0), else_=more))


def record_clean_audit(ledger: Database, collection: str, began: int) -> None:
    """Record that an audit found no difference, which began at that time (ms since 1970)."""
    _update(ledger, GENERATIONS.c.collection == collection, audited_at=began)


def in_step(ledger: Database, collection: str) -> InStep:
    """Return when a generation was last synced and audited."""
    query = sa.select(GENERATIONS.c.synced_at, GENERATIONS.c.audited_at).where(GENERATIONS.c.collection == collection)
    with ledger.transaction() as connection:
        row = connection.execute(query).one_or_none()
    return InStep(*row) if row else InStep()


def record_gates(ledger: Database, collection: str, gates: list[dict[str, Any]], quality: dict[str, float]) -> None:
    """Record a generation's gates, and its metrics on the golden questions if there are any."""
    _update(ledger, GENERATIONS.c.collection == collection, gates=gates, **({"quality": quality} if quality else {}))


def record_search_params(ledger: Database, collection: str, search_params: dict[str, Any]) -> None:
    """Record a generation's search parameters, for a later rollback."""
    _update(ledger, GENERATIONS.c.collection == collection, search_params=search_params)


def record_force(ledger: Database, collection: str, forced: dict[str, str] | None) -> None:
    """Record ``who`` promotes a generation although a gate failed, and ``why``. None if no gate failed."""
    _update(ledger, GENERATIONS.c.collection == collection, forced=forced)


def follow_alias_in_ledger(ledger: Database, alias: str, live: str) -> None:
    """Copy the alias into the ledger: record ``live`` as promoted, and the generation that was live as retired."""
    stamp, of_alias = now(), GENERATIONS.c.alias == alias
    promoted = {"promoted_at": stamp, "retired_at": None, "ready_at": sa.func.coalesce(GENERATIONS.c.ready_at, stamp)}
    not_yet = sa.or_(GENERATIONS.c.promoted_at.is_(None), GENERATIONS.c.retired_at.is_not(None))
    _update(ledger, sa.and_(of_alias, GENERATIONS.c.collection == live, not_yet), **promoted)
    was_live = sa.and_(GENERATIONS.c.promoted_at.is_not(None), GENERATIONS.c.retired_at.is_(None))
    _update(ledger, sa.and_(of_alias, GENERATIONS.c.collection != live, was_live), retired_at=stamp)


def forget_generation(ledger: Database, collection: str) -> None:
    """Remove a generation and its objects from the ledger, after its collection was dropped."""
    with ledger.transaction() as connection:
        for table in (OBJECTS, WRITERS, GENERATIONS):
            connection.execute(sa.delete(table).where(table.c.collection == collection))


@patiently
def _update(ledger: Database, chosen: sa.ColumnElement[bool], **values: Any) -> None:
    with ledger.transaction() as connection:
        connection.execute(sa.update(GENERATIONS).where(chosen).values(values))


def ingredients_of(ledger: Database, collection: str) -> dict[str, Any] | None:
    """Return the ingredients of a generation's fingerprint, or None if the ledger does not know it."""
    with ledger.transaction() as connection:
        return connection.execute(
            sa.select(GENERATIONS.c.ingredients).where(GENERATIONS.c.collection == collection)
        ).scalar()


def record_generation(ledger: Database, collection: str, alias: str, fingerprint: str, parts: dict[str, Any]) -> None:
    """Record a generation that is about to be created. If it is recorded already, nothing changes."""
    row = {"collection": collection, "alias": alias, "fingerprint": fingerprint, "ingredients": parts}
    with ledger.transaction() as connection:
        connection.execute(ledger.insert(GENERATIONS).on_conflict_do_nothing(), {**row, "created_at": now()})


def recorded_source(ledger: Database, collection: str) -> dict[str, Any] | None:
    """Return the source of a generation as `tasks/generations/claims.py` wrote it, or None if it is not known."""
    with ledger.transaction() as connection:
        return connection.execute(
            sa.select(GENERATIONS.c.source).where(GENERATIONS.c.collection == collection)
        ).scalar()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a question has to know of a generation: its bucket, and the last write that it has to see.

    ``written_ts`` is Milvus' time of that write. ``age_ms`` is how long ago it was recorded.
    """

    source: dict[str, Any] | None
    written_ts: int | None
    age_ms: int | None


def recorded(ledger: Database, alias: str) -> dict[str, Recorded]:
    """Return what is recorded of each generation of an alias for its questions, by collection."""
    with ledger.connected() as connection:
        rows = connection.execute(_recorded(ledger.postgres), {"of_alias": alias}).tuples().all()
    return {collection: Recorded(*rest) for collection, *rest in rows}


@cache
def _recorded(postgres: bool) -> sa.Select[Any]:
    # Made once, as each question runs it. The age is by the database's clock: those of its clients may differ.
    age = clock_of(postgres) - GENERATIONS.c.changed_at
    columns = (GENERATIONS.c.collection, GENERATIONS.c.source, GENERATIONS.c.written_ts, age)
    return sa.select(*columns).where(GENERATIONS.c.alias == sa.bindparam("of_alias"))


def record_write(ledger: Database, collection: str, written_ts: int) -> None:
    """Record Milvus' time of a write that is about to be confirmed. 0 stands for a server that does not say."""
    if not written_ts:
        return
    newer = sa.or_(GENERATIONS.c.written_ts.is_(None), GENERATIONS.c.written_ts < written_ts)
    chosen = sa.and_(GENERATIONS.c.collection == collection, newer)
    _update(ledger, chosen, changed_at=ledger.clock, written_ts=written_ts)


def record_source(ledger: Database, collection: str, source: dict[str, Any]) -> None:
    """Record the source of a generation: the bucket that it holds."""
    with ledger.transaction() as connection:
        connection.execute(sa.update(GENERATIONS).where(GENERATIONS.c.collection == collection).values(source=source))


def newest_number(ledger: Database, alias: str) -> int:
    """Return the highest generation number recorded for an alias, or 0 if there is none."""
    with ledger.transaction() as connection:
        names = connection.execute(sa.select(GENERATIONS.c.collection).where(GENERATIONS.c.alias == alias))
        return max((int(name.rsplit("_g", 1)[1]) for name in names.scalars()), default=0)
