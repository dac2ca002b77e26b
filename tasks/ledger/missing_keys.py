"""Walk the ledger beside a listing, in constant memory, and keep the keys that the listing lacks.

Both are walked in one order: S3 lists keys by their UTF-8 bytes, the ledger compares them so (``BYTEWISE``), and
Python's text compares by code points, which is the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.ledger.objects import ROW, ObjectRow
from tasks.ledger.tables import BYTEWISE, OBJECTS
from tasks.models import WRITTEN, Loss

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tasks.ledger.database import Database
    from tasks.models import ObjectRef

TEMPORARY = sa.MetaData()
MISSING = sa.Table(
    "lockstep_missing",
    TEMPORARY,
    sa.Column("key", BYTEWISE, primary_key=True),
    *(sa.Column(column.name, column.type) for column in ROW),
    prefixes=["TEMPORARY"],
)
ELSEWHERE = sa.Table(
    "lockstep_elsewhere",
    TEMPORARY,
    # The number of listed objects that have a missing object's version.
    sa.Column("etag", sa.String(255), primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.Integer),
    prefixes=["TEMPORARY"],
)
KEYS_AT_ONCE = 10_000
KEYS_NAMED = 100
LISTED = ("pending", "indexed", "quarantined", "returned")
"""The states that the row of a listed object may have after its page was recorded."""


def answers(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that Milvus may hold chunks of an object, and no deletion of them is recorded."""
    # An empty ETag marks a doubt of an audit or a lost ledger.
    held = sa.or_(table.c.indexed_etag.is_not(None), table.c.etag == "")
    return sa.and_(table.c.state.not_in(["deleting", "returned"]), held)


class MissingKeys:
    """The rows of a generation that a listing lacks so far, in a temporary table of one connection.

    The walk has reached the greatest key that was listed. The table holds the ledger's rows up to there that no page
    had. A sorting server's next page lies beyond. What another server lists late, or again, leaves the table: then
    the table grows, and the result is the same.
    """

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection
        self._reached = ""

    def pass_page(self, refs: Iterable[ObjectRef]) -> dict[str, ObjectRow]:
        """Walk on to the end of a page. Return the rows of its objects by key."""
        keys = {ref.key for ref in refs}
        end = max(keys, default="")
        late = [key for key in keys if key <= self._reached]
        rows: dict[str, ObjectRow] = {}
        with self._connection.begin():
            if late:
                rows |= self._rows(self._query(OBJECTS.c.key.in_(late)))
                self._connection.execute(sa.delete(MISSING).where(MISSING.c.key.in_(late)))
            while self._reached < end:
                query = self._query(OBJECTS.c.key > self._reached, OBJECTS.c.key <= end)
                some = self._rows(query.order_by(OBJECTS.c.key).limit(KEYS_AT_ONCE))
                if passed := [{"key": key, **row._asdict()} for key, row in some.items() if key not in keys]:
                    self._connection.execute(sa.insert(MISSING), passed)
                rows |= {key: row for key, row in some.items() if key in keys}
                self._reached = max(some) if len(some) == KEYS_AT_ONCE else end
        return rows

    def _query(self, *chosen: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return sa.select(OBJECTS.c.key, *ROW).where(OBJECTS.c.collection == self._collection, *chosen)

    def _rows(self, query: sa.Select[Any]) -> dict[str, ObjectRow]:
        return {key: ObjectRow(*row) for key, *row in self._connection.execute(query).all()}

    def pass_rest(self) -> None:
        """Walk on to the end of the ledger: the listing is complete."""
        rest = self._query(OBJECTS.c.key > self._reached)
        with self._connection.begin():
            self._connection.execute(sa.insert(MISSING).from_select(["key", *ObjectRow._fields], rest))

    def loss(self) -> Loss:
        """Count the objects that the generation answers from, and those of them that the listing lacks.

        Call it when the whole listing is recorded. An object whose bytes were listed under another key was moved, so
        it does not count as lost. Each such key stands for one lost object. Deletions that an earlier run recorded do
        not count either.
        """
        of_all = OBJECTS.c.collection == self._collection
        with self._connection.begin():
            held = self._count(OBJECTS, of_all, answers(OBJECTS))
            listed = self._count(OBJECTS, of_all) - self._count(MISSING)
            lost = self._count(MISSING, answers(MISSING))
            if not lost:
                return Loss(held, 0, listed)
            self._find_elsewhere()
            lost -= self._moved()
            moved = sa.exists().where(ELSEWHERE.c.etag == MISSING.c.indexed_etag)
            some = sa.select(MISSING.c.key).where(answers(MISSING)).order_by(moved, MISSING.c.key)
            keys = self._connection.execute(some.limit(min(lost, KEYS_NAMED))).scalars()
            return Loss(held, lost, listed, tuple(keys))

    def _find_elsewhere(self) -> None:
        """Count the listed objects that have a missing object's version.

        When the listing is recorded, a row that is not missing has the version that was listed.
        """
        self._connection.execute(sa.text(f"create index ix_{MISSING.name} on {MISSING.name} (indexed_etag)"))
        self._analyze(MISSING)
        query = sa.select(OBJECTS.c.etag, OBJECTS.c.size, sa.func.count()).where(
            OBJECTS.c.collection == self._collection,
            OBJECTS.c.state.in_(LISTED),
            OBJECTS.c.etag.in_(sa.select(MISSING.c.indexed_etag)),
            ~sa.exists().where(MISSING.c.key == OBJECTS.c.key),
        )
        counted = query.group_by(OBJECTS.c.etag, OBJECTS.c.size)
        self._connection.execute(sa.insert(ELSEWHERE).from_select(["etag", "size", "number"], counted))
        self._analyze(ELSEWHERE)

    def _analyze(self, table: sa.Table) -> None:
        if self._connection.dialect.name == "postgresql":  # it has no statistics of a table that was just filled
            self._connection.execute(sa.text(f"analyze {table.name}"))

    def _moved(self) -> int:
        """Count lost objects that were listed under another key. A version that is a time says nothing of bytes."""
        etag, number = MISSING.c.indexed_etag, sa.func.count().label("number")
        lost = sa.select(etag, MISSING.c.size, number).where(answers(MISSING), etag.not_like(f"{WRITTEN}%"))
        left = lost.group_by(etag, MISSING.c.size).subquery()
        same = sa.and_(left.c.indexed_etag == ELSEWHERE.c.etag, left.c.size == ELSEWHERE.c.size)
        fewer = sa.case((left.c.number < ELSEWHERE.c.number, left.c.number), else_=ELSEWHERE.c.number)
        query = sa.select(sa.func.coalesce(sa.func.sum(fewer), 0)).select_from(left.join(ELSEWHERE, same))
        return int(self._connection.execute(query).scalar_one())

    def _count(self, table: sa.Table, *chosen: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(*chosen)
        return int(self._connection.execute(query).scalar_one())

    def pieces(self) -> Iterator[list[str]]:
        """Yield the missing keys in bounded lists."""
        last = ""
        while True:
            query = sa.select(MISSING.c.key).where(MISSING.c.key > last).order_by(MISSING.c.key).limit(KEYS_AT_ONCE)
            with self._connection.begin():
                keys = list(self._connection.execute(query).scalars())
            if not keys:
                return
            yield keys
            last = keys[-1]


@contextmanager
def missing_keys(ledger: Database, collection: str) -> Iterator[MissingKeys]:
    """Begin a walk at the first key of a generation, and delete its tables afterwards."""
    with ledger.connected() as connection:
        with connection.begin():
            TEMPORARY.create_all(connection, checkfirst=False)
        try:
            yield MissingKeys(connection, collection)
        except BaseException:
            connection.invalidate()  # the table goes with the connection, even if the server is gone
            raise
        with connection.begin():
            TEMPORARY.drop_all(connection, checkfirst=False)
