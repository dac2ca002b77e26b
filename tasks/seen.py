"""Which keys a listing has shown, kept where memory does not grow with the bucket: in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tasks.ledger_tables import BYTEWISE, OBJECTS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tasks.ledger import Ledger

LISTED = sa.Table(
    "lockstep_listed",
    sa.MetaData(),
    sa.Column("key", BYTEWISE, primary_key=True),
    prefixes=["TEMPORARY"],
)
KEYS_AT_ONCE = 10_000


class Seen:
    """The keys seen in one listing: a temporary table of one connection."""

    def __init__(self, connection: Connection, ledger: Ledger) -> None:
        self._connection = connection
        self._insert = ledger.insert(LISTED).on_conflict_do_nothing()

    def add(self, keys: Sequence[str]) -> None:
        """Note that these keys were listed."""
        if keys:
            with self._connection.begin():
                self._connection.execute(self._insert, [{"key": key} for key in keys])

    def missing(self, collection: str) -> Iterator[list[str]]:
        """Yield, in bounded pieces, the keys that the generation has and the listing had not."""
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
def seen_keys(ledger: Ledger) -> Iterator[Seen]:
    """Open an empty set of seen keys; it is gone afterwards."""
    with ledger.connected() as connection:
        with connection.begin():
            LISTED.create(connection, checkfirst=False)
        try:
            yield Seen(connection, ledger)
        except BaseException:
            connection.invalidate()  # the table goes with it, also when the server is gone
            raise
        with connection.begin():
            LISTED.drop(connection)
