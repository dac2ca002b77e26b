"""The SQL database that remembers what each generation holds."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.schema_once import SchemaOnce

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine


class PlaceError(ValueError):
    """The URL names a SQLite database that differs by folder or by process. The message says so."""


class Ledger(SchemaOnce, Block):
    """A SQLAlchemy URL: SQLite for one machine, PostgreSQL for many workers."""

    _block_type_name = "Ledger"
    _block_type_slug = "ledger"
    _description = "The database in which Lockstep records what each generation holds."

    url: SecretStr = Field(
        description="SQLAlchemy URL, such as sqlite:////var/lib/lockstep/ledger.db or postgresql+psycopg://…"
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds to wait for a connection, a lock or an answer."
    )

    def get_client(self) -> Engine:
        """Return an engine. It connects on first use.

        SQLite runs in WAL mode, so readers never wait for the writer. It waits for locks. Raises ``PlaceError`` if the
        SQLite database is in memory, or its path is relative.
        """
        from sqlalchemy import create_engine, event, make_url

        url = make_url(self.url.get_secret_value())
        if url.get_backend_name() == "postgresql":
            from blocks.postgres import connect_in_time

            engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
            event.listen(engine, "do_connect", connect_in_time(self.timeout_seconds))
            return engine
        if url.get_backend_name() == "sqlite":
            _check_place(url)
        engine = create_engine(url, connect_args={"timeout": self.timeout_seconds})
        event.listen(engine, "connect", _use_wal)
        return engine


def _check_place(url: URL) -> None:
    """Raise ``PlaceError`` if the worker and another process would each open a different database."""
    path = url.database or ":memory:"
    if ":memory:" in path or url.query.get("mode") == "memory":
        raise PlaceError(
            "a SQLite database in memory is a different one in each process. Name a file: sqlite:////folder/x.db"
        )
    if not path.startswith(("/", "file:/")):
        raise PlaceError(
            f"the path '{path}' of the SQLite database is relative, so it is a different one in each folder. Write the "
            "whole path, with four slashes: sqlite:////folder/x.db"
        )


def _use_wal(connection: sqlite3.Connection, _record: object) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The mode is stored in the file. If another process is just switching it, its lock fails at once.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
