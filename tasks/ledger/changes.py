"""The keys that notifications named: a queue that survives whoever received them, and the lag that it tells of.

A notification is believed in one thing: that somebody should look at a key. A row stays until a sync has looked, and
counts how often its key was named, so that a change which is announced meanwhile is looked at once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tasks.ledger.tables import CHANGES, GENERATIONS, OBJECTS

if TYPE_CHECKING:
    from tasks.ledger.database import Database

ROWS_AT_ONCE = 500
WHOLE_BUCKET = ""
"""Stands among the keys for the wish that somebody lists the bucket: so much changed that nobody can name it."""
LISTINGS_LAG_MS = 60_000
"""How far the listing of some servers is behind their notifications."""
OPEN = ("pending", "deleting", "returned")


@dataclass(frozen=True, slots=True)
class Change:
    """A key to look at, how often it was named, and since when it waits: a later wait of the same key is another."""

    key: str
    times: int
    since: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far what answers is behind the bucket, as far as the ledger knows.

    ``seconds`` is the age of the oldest change that is known and not answerable, 0 if there is none. ``waiting`` counts
    the keys to look at and the objects to write or delete. ``listed_seconds`` is the age of the last whole listing
    that was worked off: what happened since is known from notifications alone. None if there was none.
    """

    seconds: float = 0.0
    waiting: int = 0
    listed_seconds: float | None = None


def record_changes(ledger: Database, alias: str, keys: Iterable[str]) -> int:
    """Record that somebody should look at these keys. Call it before a notification is acknowledged.

    Returns the number of keys that were not waiting already.
    """
    rows = [{"alias": alias, "key": key, "times": 1} for key in sorted(set(keys))]
    insert = ledger.insert(CHANGES).values(since=ledger.clock, named_at=ledger.clock)
    again = {"named_at": insert.excluded.named_at, "times": CHANGES.c.times + 1}
    statement = insert.on_conflict_do_update(index_elements=["alias", "key"], set_=again)
    before = sa.select(sa.func.count()).select_from(CHANGES).where(CHANGES.c.alias == alias)
    with ledger.transaction() as connection:
        had = int(connection.execute(before).scalar_one())
        for start in range(0, len(rows), ROWS_AT_ONCE):
            connection.execute(statement, rows[start : start + ROWS_AT_ONCE])
        return int(connection.execute(before).scalar_one()) - had


def waiting_changes(ledger: Database, alias: str, limit: int) -> list[Change]:
    """Return the keys that have waited longest."""
    query = sa.select(CHANGES.c.key, CHANGES.c.times, CHANGES.c.since).where(CHANGES.c.alias == alias)
    with ledger.transaction() as connection:
        rows = connection.execute(query.order_by(CHANGES.c.since, CHANGES.c.key).limit(limit))
        return [Change(*row) for row in rows]


def forget_changes(ledger: Database, alias: str, changes: Sequence[Change]) -> None:
    """Remove keys that a sync has looked at, unless they were named again since they were read."""
    if not changes:
        return
    done = sa.delete(CHANGES).where(
        CHANGES.c.alias == alias,
        CHANGES.c.key == sa.bindparam("done"),
        CHANGES.c.times == sa.bindparam("seen"),
        CHANGES.c.since == sa.bindparam("waited_since"),
    )
    # In the order in which keys are recorded, so that the two wait for each other in turn.
    rows = [
        {"done": change.key, "seen": change.times, "waited_since": change.since}
        for change in sorted(changes, key=lambda change: change.key)
    ]
    with ledger.transaction() as connection:
        connection.execute(done, rows)


def forget_listed(ledger: Database, alias: str, listed_at: int) -> None:
    """Remove keys that were named well before a whole listing began, which has now been worked off."""
    listed = (CHANGES.c.alias == alias, CHANGES.c.named_at < listed_at - LISTINGS_LAG_MS)
    with ledger.transaction() as connection:
        connection.execute(sa.delete(CHANGES).where(*listed))


def quiet_seconds(ledger: Database, alias: str) -> tuple[float, float] | None:
    """Return for how long no waiting key was named, and how long the oldest has waited. None if none waits."""
    query = sa.select(ledger.clock, sa.func.max(CHANGES.c.named_at), sa.func.min(CHANGES.c.since)).where(
        CHANGES.c.alias == alias
    )
    with ledger.transaction() as connection:
        clock, named_at, since = connection.execute(query).one()
    return None if since is None else (max(clock - named_at, 0) / 1000, max(clock - since, 0) / 1000)


def lag_of(ledger: Database, alias: str, collection: str) -> Lag:
    """Return the lag of a generation."""
    named = sa.select(sa.func.count(), sa.func.min(CHANGES.c.since)).where(CHANGES.c.alias == alias)
    work = sa.select(sa.func.count(), sa.func.min(sa.func.coalesce(OBJECTS.c.known_at, OBJECTS.c.updated_at))).where(
        OBJECTS.c.collection == collection, OBJECTS.c.state.in_(OPEN)
    )
    listed = sa.select(ledger.clock, GENERATIONS.c.synced_at).where(GENERATIONS.c.collection == collection)
    with ledger.transaction() as connection:
        keys, named_since = connection.execute(named).one()
        objects, known_at = connection.execute(work).one()
        row = connection.execute(listed).one_or_none()
    clock, synced_at = row or (None, None)
    oldest = min((one for one in (named_since, known_at) if one is not None), default=None)
    return Lag(
        seconds=_age(clock, oldest) or 0.0,
        waiting=int(keys) + int(objects),
        listed_seconds=_age(clock, synced_at),
    )


def _age(clock: int | None, since: int | None) -> float | None:
    return None if clock is None or since is None else round(max(clock - since, 0) / 1000, 3)
