"""Connections to PostgreSQL on which no call waits for ever, even if the server or this machine fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")

IDLE_FACTOR = 2


class TimedConnection(psycopg.Connection[Any]):
    """A connection with a time limit on every call.

    The server's own limits do not help when the server falls silent. TCP's do not help when PostgreSQL hangs on a
    machine that runs: its system still acknowledges data that nobody reads.
    """

    seconds: float = 30.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for a call to end. If it does not, close the connection and raise ``OperationalError``."""
        try:
            return super().wait(gen, interval, self.seconds if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.seconds:g} s") from error


def connect_in_time(seconds: float) -> Callable[..., TimedConnection]:
    """Return a handler of SQLAlchemy's event ``do_connect`` that limits each call to ``seconds``.

    Time limits in the URL take precedence over ours.
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
    """Set the server's own limits, so that it ends calls that nobody waits for any more.

    A machine that loses power leaves a transaction open with its locks, until TCP notices two hours later. The limits
    are set here, because a PgBouncer refuses ``options`` in the URL.
    """
    limits = {"statement_timeout": seconds, "idle_in_transaction_session_timeout": IDLE_FACTOR * seconds}
    for name, limit in limits.items():
        if name not in options:
            connection.execute("select set_config(%s, %s, false)", [name, f"{round(limit * 1000)}ms"])
    connection.commit()
