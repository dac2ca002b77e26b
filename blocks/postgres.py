"""Connections to PostgreSQL with a time limit on every call, even if the server falls silent or this machine dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")

IDLE_FACTOR = 2


class TimedConnection(psycopg.Connection[Any]):
    """A connection whose every call ends in time.

    The server's own limits do not help when it falls silent, nor do TCP's when the machine lives and its PostgreSQL
    does not: the system goes on acknowledging what nobody reads.
    """

    seconds: float = 30.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for a call to end. Raises ``OperationalError`` when it does not; then the connection is closed."""
        try:
            return super().wait(gen, interval, self.seconds if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.seconds:g} s") from error


def connect_in_time(seconds: float) -> Callable[..., TimedConnection]:
    """Return what connects SQLAlchemy's engine (its event ``do_connect``), with ``seconds`` as the limit of each call.

    What the URL says about time limits holds instead of ours.
    """

    def connect(_dialect: object, _record: object, args: list[Any], given: dict[str, Any]) -> TimedConnection:
        given.setdefault("connect_timeout", max(2, int(seconds)))
        connection = TimedConnection.connect(*args, **given)
        connection.seconds = seconds
        try:
            _limit(connection, str(given.get("options", "")), seconds)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _limit(connection: TimedConnection, options: str, seconds: float) -> None:
    """Let the server, too, give up what nobody waits for any more.

    A machine that loses its power leaves a transaction open, with its locks, for the two hours in which TCP notices.
    Set here and not as ``options`` of the URL, which a PgBouncer refuses.
    """
    limits = {"statement_timeout": seconds, "idle_in_transaction_session_timeout": IDLE_FACTOR * seconds}
    for name, limit in limits.items():
        if name not in options:
            connection.execute("select set_config(%s, %s, false)", [name, f"{round(limit * 1000)}ms"])
    connection.commit()
