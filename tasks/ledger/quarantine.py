"""The ledger's rows of objects that cannot be indexed: failures of a run, and the quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.ledger.database import now
from tasks.ledger.tables import OBJECTS

if TYPE_CHECKING:
    from tasks.ledger.database import Database

KEYS_AT_ONCE = 1000
RUNS_OF_DOUBT = 2
"""An object that failed in so many runs that were stopped is no sign of an outage in the next."""
QUARTER_HOUR_MS, DAY_MS, DAILY_FROM = 900_000, 86_400_000, 10


def failed(ledger: Database, collection: str, flow_run_id: str, limit: int) -> list[dict[str, Any]]:
    """Return what a run could not index and nobody has judged yet, as :func:`quarantined` does."""
    return _with_reason(ledger, limit, *_of_run(collection, flow_run_id))


def failed_keys(ledger: Database, collection: str, flow_run_id: str) -> Iterator[list[str]]:
    """Yield the keys of all that a run could not index, in bounded pieces."""
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


def known_bad(ledger: Database, collection: str, keys: Sequence[str], failing_since: int | None = None) -> set[str]:
    """Return those keys whose version was in quarantine before, or has failed in two runs already.

    With ``failing_since``, ms since 1970, not those that failed first after it: three runs may take a minute.
    """
    doubted = OBJECTS.c.attempts >= RUNS_OF_DOUBT
    if failing_since is not None:
        doubted = sa.and_(doubted, OBJECTS.c.failed_at <= failing_since)
    return _keys(ledger, collection, keys, sa.or_(OBJECTS.c.since.is_not(None), doubted))


def send_to_quarantine(ledger: Database, collection: str, flow_run_id: str) -> int:
    """Send to quarantine what a run could not index; returns how many objects."""
    stamp = now()
    since = sa.func.coalesce(OBJECTS.c.since, stamp)
    update = sa.update(OBJECTS).where(*_of_run(collection, flow_run_id))
    with ledger.transaction() as connection:
        done = connection.execute(update.values(state="quarantined", since=since, updated_at=stamp))
        return int(done.rowcount)


def quarantined(ledger: Database, collection: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the objects in quarantine, newest first: key, reason, attempts, since, indexed_etag."""
    return _with_reason(ledger, limit, OBJECTS.c.collection == collection, OBJECTS.c.state == "quarantined")


def retry(ledger: Database, collection: str, keys: Sequence[str] | None = None) -> list[str]:
    """Release objects from quarantine, all or some keys, so that the next sync retries them; returns the keys."""
    chosen = [OBJECTS.c.collection == collection, OBJECTS.c.state == "quarantined"]
    if keys is not None:
        chosen.append(OBJECTS.c.key.in_(list(keys)))
    with ledger.transaction() as connection:
        found = list(connection.execute(sa.select(OBJECTS.c.key).where(*chosen).order_by(OBJECTS.c.key)).scalars())
        connection.execute(sa.update(OBJECTS).where(*chosen).values(state="pending", reason=None, updated_at=now()))
    return found


def retry_withheld(ledger: Database, collection: str, at: int) -> tuple[int, int]:
    """Release the withheld objects from quarantine, so that they are retried.

    Returns how many objects of which no version was indexed yet, and how many others.

    A quarter of an hour after the first attempt, an hour after the second, and so on, in the end once a day.
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
        done = connection.execute(sa.update(OBJECTS).where(*chosen).values(state="pending", reason=None))
        return new, int(done.rowcount) - new


def outdated(ledger: Database, collection: str, keys: Sequence[str]) -> set[str]:
    """Return those keys whose newest version cannot be indexed, so that an older one answers.

    In quarantine, or failed and not judged or tried again yet.
    """
    bad = sa.or_(OBJECTS.c.state == "quarantined", OBJECTS.c.attempts > 0)
    return _keys(ledger, collection, keys, bad, sa.func.coalesce(OBJECTS.c.indexed_etag, "") != OBJECTS.c.etag)


def quarantined_here_alone(ledger: Database, collection: str, other: str) -> list[str]:
    """Return the keys in quarantine in one generation whose same version another one holds."""
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
