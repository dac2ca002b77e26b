"""The ledger's rows of objects that cannot be indexed: those of a run, and those in quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.ledger.database import now
from tasks.ledger.tables import OBJECTS, starts_with

if TYPE_CHECKING:
    from tasks.ledger.database import Database

KEYS_AT_ONCE = 1000
RUNS_OF_DOUBT = 2
"""An object that failed in this many stopped runs is no sign of an outage in the next run."""
QUARTER_HOUR_MS, DAY_MS, DAILY_FROM = 900_000, 86_400_000, 10


def failed(ledger: Database, collection: str, flow_run_id: str, limit: int) -> list[dict[str, Any]]:
    """Return the objects that a run could not index and that are not judged yet, in the form of :func:`quarantined`."""
    return _with_reason(ledger, limit, *_of_run(collection, flow_run_id))


def failed_keys(ledger: Database, collection: str, flow_run_id: str) -> Iterator[list[str]]:
    """Yield, in bounded lists, the keys of all objects that a run could not index."""
    last = ""
    while True:
        chosen = (*_of_run(collection, flow_run_id), OBJECTS.c.key > last)
        query = sa.select(OBJECTS.c.key).where(*chosen).order_by(OBJECTS.c.key).limit(KEYS_AT_ONCE)
        with ledger.transaction() as connection:
            keys = list(connection.execute(query).scalars())
        if not keys:
            return
        yield keys
        last = keys[-1]


def new_failures(ledger: Database, collection: str, flow_run_id: str, limit: int) -> tuple[int, list[str]]:
    """Return the number, and the first keys, of a run's failed objects whose version never was in quarantine.

    Call it before the run's failed objects are sent to quarantine.
    """
    chosen = (*_of_run(collection, flow_run_id), OBJECTS.c.since.is_(None))
    keys = sa.select(OBJECTS.c.key).where(*chosen).order_by(OBJECTS.c.key).limit(limit)
    with ledger.transaction() as connection:
        number = connection.execute(sa.select(sa.func.count()).select_from(OBJECTS).where(*chosen)).scalar_one()
        return int(number), list(connection.execute(keys).scalars())


def known_bad(ledger: Database, collection: str, keys: Sequence[str], failing_since: int | None = None) -> set[str]:
    """Return the keys whose version was in quarantine before, or has failed in two runs already.

    ``failing_since``, in ms since 1970, leaves out versions that have failed only since then, if they never were in
    quarantine: three runs may take only a minute.
    """
    doubted = OBJECTS.c.attempts >= RUNS_OF_DOUBT
    if failing_since is not None:
        doubted = sa.and_(doubted, OBJECTS.c.failed_at <= failing_since)
    return _keys(ledger, collection, keys, sa.or_(OBJECTS.c.since.is_not(None), doubted))


def send_to_quarantine(ledger: Database, collection: str, flow_run_id: str) -> int:
    """Quarantine the objects that a run could not index, and return how many there are."""
    stamp = now()
    since = sa.func.coalesce(OBJECTS.c.since, stamp)
    update = sa.update(OBJECTS).where(*_of_run(collection, flow_run_id))
    with ledger.transaction() as connection:
        done = connection.execute(update.values(state="quarantined", since=since, updated_at=stamp))
        return int(done.rowcount)


def quarantined(ledger: Database, collection: str, limit: int | None = None, start: str = "") -> list[dict[str, Any]]:
    """Return the objects in quarantine, newest first: key, reason, attempts, since, indexed_etag.

    ``start`` limits them to the keys that start with it.
    """
    chosen = (OBJECTS.c.collection == collection, OBJECTS.c.state == "quarantined", starts_with(start))
    return _with_reason(ledger, limit, *chosen)


def retry(ledger: Database, collection: str, keys: Sequence[str] | None = None) -> list[str]:
    """Take all objects or the given keys out of quarantine, so that the next sync retries them. Return their keys."""
    chosen = [OBJECTS.c.collection == collection, OBJECTS.c.state == "quarantined"]
    if keys is not None:
        chosen.append(OBJECTS.c.key.in_(list(keys)))
    with ledger.transaction() as connection:
        found = list(connection.execute(sa.select(OBJECTS.c.key).where(*chosen).order_by(OBJECTS.c.key)).scalars())
        connection.execute(
            sa.update(OBJECTS)
            .where(*chosen)
            .values(state="pending", reason=None, updated_at=now(), known_at=ledger.clock)
        )
    return found


def retry_withheld(ledger: Database, collection: str, at: int) -> tuple[int, int]:
    """Take objects that the bucket did not hand out out of quarantine, if their next retry is due at ``at``.

    Returns the number of objects without an indexed version, and the number of the others.

    The first retry is due a quarter of an hour after the first attempt, the next an hour after the second, and so on.
    In the end it is one a day. ``at`` is in ms since 1970.
    """
    often = OBJECTS.c.attempts
    wait = sa.case((often >= DAILY_FROM, DAY_MS), else_=often * often * QUARTER_HOUR_MS)
    chosen = (
        OBJECTS.c.collection == collection,
        OBJECTS.c.state == "quarantined",
        OBJECTS.c.withheld.is_(True),
        OBJECTS.c.updated_at + wait <= at,
    )
    with ledger.transaction() as connection:
        never = sa.select(sa.func.count()).select_from(OBJECTS).where(*chosen, OBJECTS.c.indexed_etag.is_(None))
        new = int(connection.execute(never).scalar_one())
        done = connection.execute(
            sa.update(OBJECTS).where(*chosen).values(state="pending", reason=None, known_at=ledger.clock)
        )
        return new, int(done.rowcount) - new


def outdated(ledger: Database, collection: str, keys: Sequence[str]) -> set[str]:
    """Return the keys whose newest version cannot be indexed, so that an older one answers.

    That version is in quarantine, or it failed and is not judged or retried yet.
    """
    with ledger.connected() as connection:
        return set(connection.execute(OUTDATED, {"collection": collection, "keys": list(keys)}).scalars())


OUTDATED = sa.select(OBJECTS.c.key).where(
    OBJECTS.c.collection == sa.bindparam("collection"),
    OBJECTS.c.key.in_(sa.bindparam("keys", expanding=True)),
    sa.or_(OBJECTS.c.state == "quarantined", OBJECTS.c.attempts > 0),
    sa.func.coalesce(OBJECTS.c.indexed_etag, "") != OBJECTS.c.etag,
)
"""Made once: to put it together takes longer than to run it, and each question runs it."""


def quarantined_here_alone(ledger: Database, collection: str, other: str) -> list[str]:
    """Return the keys that are in quarantine in ``collection`` while ``other`` has indexed the same version."""
    there = OBJECTS.alias()
    holds = (
        there.c.collection == other,
        there.c.key == OBJECTS.c.key,
        there.c.indexed_etag == OBJECTS.c.etag,
        there.c.state == "indexed",
    )
    here = (OBJECTS.c.collection == collection, OBJECTS.c.state == "quarantined")
    query = sa.select(OBJECTS.c.key).where(*here, sa.exists().where(*holds)).order_by(OBJECTS.c.key)
    with ledger.transaction() as connection:
        return list(connection.execute(query).scalars())


def _of_run(collection: str, flow_run_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        OBJECTS.c.collection == collection,
        OBJECTS.c.state == "pending",
        OBJECTS.c.flow_run_id == flow_run_id,
        OBJECTS.c.reason.is_not(None),
    )


def _keys(ledger: Database, collection: str, keys: Sequence[str], *chosen: sa.ColumnElement[bool]) -> set[str]:
    query = sa.select(OBJECTS.c.key).where(OBJECTS.c.collection == collection, OBJECTS.c.key.in_(list(keys)), *chosen)
    with ledger.transaction() as connection:
        return set(connection.execute(query).scalars())


def _with_reason(ledger: Database, limit: int | None, *chosen: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    columns = [OBJECTS.c[name] for name in ("key", "reason", "attempts", "since", "indexed_etag")]
    query = sa.select(*columns).where(*chosen).order_by(OBJECTS.c.since.desc(), OBJECTS.c.key).limit(limit)
    with ledger.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
