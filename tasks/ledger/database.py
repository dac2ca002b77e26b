"""The ledger's database: connections, transactions, and the translation of its errors to ours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from blocks.ledger import PlaceError
from tasks.errors import PartError, TransientError
from tasks.ledger.migrate import migrate
from tasks.sanitize import hidden

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from blocks.ledger import Ledger as LedgerBlock


DISK_FULL = "53100"
"""PostgreSQL's code for a full disk. It does not depend on the language of the server's messages."""
PASSING = ("25006", "25P03")
"""Codes of errors that may pass on another connection, though psycopg does not call them operational. The server became
a standby in a failover, or it ended a transaction because this machine slept."""


def now() -> int:
    """Return the time in ms since 1970."""
    return int(time.time() * 1000)


def digest(ids: Iterable[str]) -> str:
    """Return the hash of a set of chunk ids as 16 hexadecimal digits. An audit compares Milvus with it."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def clock_of(postgres: bool) -> sa.ColumnElement[int]:
    """Return a database's own time in ms since 1970, as a part of a statement: the clocks of its clients may differ."""
    if postgres:
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
    return sa.cast((sa.func.julianday("now") - 2440587.5) * 86_400_000, sa.BigInteger)


class Database:
    """A ledger's database with its schema up to date. Each transaction may raise ``TransientError``."""

    def __init__(self, block: LedgerBlock) -> None:
        """Open the database and bring its schema up to date.

        Raises ``PartError`` if the URL is wrong or the schema is newer than this version of Lockstep.
        """
        try:
            self.engine: Engine = block.get_client()
        except PlaceError as error:
            raise PartError(f"Ledger: {error}.") from error
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
            # The error's own message may hold a part of the password.
            raise PartError(
                "Ledger: SQLAlchemy does not understand the URL, or its driver is not installed. Check "
                "LEDGER_URL: postgresql://user:password@host/database or sqlite:////folder/ledger.db."
            ) from error
        self.where = hidden(self.engine.url.render_as_string(hide_password=True))
        migrate(self.transaction, self.where)

    @property
    def postgres(self) -> bool:
        """Whether it is PostgreSQL, and not SQLite."""
        return self.engine.dialect.name == "postgresql"

    @property
    def clock(self) -> sa.ColumnElement[int]:
        """The database's own time in ms since 1970, as a part of a statement."""
        return clock_of(self.postgres)

    def moment(self) -> int:
        """Return the database's own time in ms since 1970."""
        with self.transaction() as connection:
            return int(connection.execute(sa.select(self.clock)).scalar_one())

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close all connections."""
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction. It commits at the end and rolls back on an error."""
        with self.connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Open a connection. Translates the database's errors to ours, with the cause kept."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.TimeoutError as error:
            raise TransientError(f"Ledger: {self.where} has no free connection ({error}).") from error
        except sa.exc.OperationalError as error:
            raise self._explained(error) from error
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") in PASSING:
                raise TransientError(f"Ledger: {self.where} does not answer ({error.orig}).") from error
            raise PartError(f"Ledger: {self.where} refused a statement: {error.orig}.") from error

    def _explained(self, error: sa.exc.OperationalError) -> PartError | TransientError:
        words = str(error.orig).lower()
        lasting = (
            "password",
            "authentication",
            "does not exist",
            "unable to open",
            "readonly",
            "not a database",
        )
        if "is full" in words or getattr(error.orig, "sqlstate", "") == DISK_FULL:
            return PartError(
                f"Ledger: the disk of the ledger is full ({self.where}). Free some space. Nothing is lost."
            )
        if any(word in words for word in lasting):
            return PartError(f"Ledger: {self.where} cannot be used ({error.orig}). Check LEDGER_URL.")
        return TransientError(f"Ledger: {self.where} does not answer ({error.orig}). Is it up, is LEDGER_URL right?")

    def insert(self, table: sa.Table) -> Any:
        """Return an insert statement in the database's dialect, for its ON CONFLICT."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)
