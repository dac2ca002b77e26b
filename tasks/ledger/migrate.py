"""Bring the ledger's schema up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.errors import PartError
from tasks.ledger.tables import NEWEST

if TYPE_CHECKING:
    from sqlalchemy import Connection


LONGEST_SECONDS = 3600.0
"""Time limit of a statement of a migration."""
_migrating = threading.Lock()
"""Held during a migration, because Alembic keeps its state in module variables."""


def migrate(transaction: Callable[[], AbstractContextManager[Connection]], where: str) -> None:
    """Bring the schema of a database up to date. Several processes may call it at once.

    It costs one query if the schema is up to date. Raises ``PartError`` if a newer Lockstep wrote the database.
    """
    with transaction() as connection:
        if _is_newest(connection, where):
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _migrating, transaction() as connection, _patience(connection):
        postgres = connection.dialect.name == "postgresql"
        connection.exec_driver_sql("select pg_advisory_xact_lock(706173)" if postgres else "begin immediate")
        if not _is_newest(connection, where):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


@contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """Raise the time limit of statements: migrating a large ledger takes long, and so does waiting for a migration."""
    if connection.dialect.name != "postgresql":
        yield
        return
    driver: Any = connection.connection.driver_connection
    before, driver.seconds = driver.seconds, LONGEST_SECONDS
    connection.exec_driver_sql(f"set local statement_timeout = '{LONGEST_SECONDS:g}s'")
    try:
        yield
    finally:
        driver.seconds = before


def _is_newest(connection: Connection, where: str) -> bool:
    if not sa.inspect(connection).has_table("lockstep_version"):
        return False
    version = str(connection.execute(sa.text("select version_num from lockstep_version")).scalar())
    if version > NEWEST:
        raise PartError(
            f"Ledger: {where} has schema {version}, but this Lockstep knows only up to {NEWEST}. Upgrade Lockstep."
        )
    return version == NEWEST
