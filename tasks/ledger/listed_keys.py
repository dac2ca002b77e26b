"""The keys of a listing, kept in the database so that memory does not grow with the bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tasks.ledger.tables import BYTEWISE, OBJECTS
from tasks.models import WRITTEN, Loss

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tasks.ledger.database import Database
    from tasks.models import ObjectRef

LISTED = sa.Table(
    "lockstep_listed",
    sa.MetaData(),
    sa.Column("key", BYTEWISE, primary_key=True),
    sa.Column("etag", sa.String(255)),
    sa.Column("size", sa.BigInteger),
    prefixes=["TEMPORARY"],
)
KEYS_AT_ONCE = 10_000
KEYS_NAMED = 100


class Seen:
    """The keys seen in one listing, in a temporary table of one connection."""

    def __init__(self, connection: Connection, ledger: Database) -> None:
        self._connection = connection
        self._insert = ledger.insert(LISTED).on_conflict_do_nothing()

    def add(self, refs: Sequence[ObjectRef]) -> None:
        """Record that these objects were listed."""
        if refs:
            with self._connection.begin():
                self._connection.execute(
                    self._insert, [{"key": ref.key, "etag": ref.etag, "size": ref.size} for ref in refs]
                )

    def loss(self, collection: str) -> Loss:
        """Count the objects that the generation answers from, and those of them that the listing lacks.

        An object whose bytes were listed under another key was moved, so it does not count as lost. Each such key
        stands for one lost object. Deletions that an earlier run recorded do not count either.
        """
        if self._connection.dialect.name == "postgresql":  # it has no statistics of a table that was just filled
            with self._connection.begin():
                self._connection.execute(sa.text("analyze lockstep_listed"))
        answers = (
            OBJECTS.c.collection == collection,
            OBJECTS.c.state.not_in(["deleting", "returned"]),
            # An empty ETag marks a doubt of an audit or a lost ledger: Milvus may hold chunks of that object.
            sa.or_(OBJECTS.c.indexed_etag.is_not(None), OBJECTS.c.etag == ""),
        )
        gone = [*answers, ~sa.exists().where(LISTED.c.key == OBJECTS.c.key)]
        with self._connection.begin():
            held, lost = self._count(OBJECTS, *answers), self._count(OBJECTS, *gone)
            if lost:
                self._connection.execute(sa.text(f"create index ix_{LISTED.name} on {LISTED.name} (etag)"))
                lost -= self._moved(gone)
            there = sa.exists().where(LISTED.c.etag == OBJECTS.c.indexed_etag)
            some = sa.select(OBJECTS.c.key).where(*gone).order_by(there, OBJECTS.c.key).limit(min(lost, KEYS_NAMED))
            return Loss(held, lost, self._count(LISTED), tuple(self._connection.execute(some).scalars()))

    def _moved(self, gone: Sequence[sa.ColumnElement[bool]]) -> int:
        """Count lost objects that were listed under another key. A version that is a time says nothing of bytes."""
        lost, number = OBJECTS.c.indexed_etag, sa.func.count().label("number")
        of_gone = sa.select(lost, OBJECTS.c.size, number).where(*gone, lost.not_like(f"{WRITTEN}%"))
        left = of_gone.group_by(lost, OBJECTS.c.size).subquery()
        listed = sa.select(LISTED.c.etag, LISTED.c.size, number).group_by(LISTED.c.etag, LISTED.c.size).subquery()
        same = sa.and_(left.c.indexed_etag == listed.c.etag, left.c.size == listed.c.size)
        fewer = sa.case((left.c.number < listed.c.number, left.c.number), else_=listed.c.number)
        query = sa.select(sa.func.coalesce(sa.func.sum(fewer), 0)).select_from(left.join(listed, same))
        return int(self._connection.execute(query).scalar_one())

    def _count(self, table: sa.Table, *chosen: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(*chosen)
        return int(self._connection.execute(query).scalar_one())

    def missing(self, collection: str) -> Iterator[list[str]]:
        """Yield, in bounded lists, the keys that the generation has and the listing lacks."""
        last = ""
        listed = sa.exists().where(LISTED.c.key == OBJECTS.c.key)
        while True:
            query = (
                sa.select(OBJECTS.c.key)
                .where(OBJECTS.c.collection == collection, OBJECTS.c.key > last, ~listed)
                .order_by(OBJECTS.c.key)
                .limit(KEYS_AT_ONCE)
            )
            with self._connection.begin():
                found = list(self._connection.execute(query).scalars())
            if not found:
                return
            yield found
            last = found[-1]


@contextmanager
def seen_keys(ledger: Database) -> Iterator[Seen]:
    """Open an empty set of seen keys, and delete it afterwards."""
    with ledger.connected() as connection:
        with connection.begin():
            LISTED.create(connection, checkfirst=False)
        try:
            yield Seen(connection, ledger)
        except BaseException:
            connection.invalidate()  # the table goes with the connection, even if the server is gone
            raise
        with connection.begin():
            LISTED.drop(connection)
