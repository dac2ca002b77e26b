"""Allow one writer for each generation, by a lease in the ledger that is renewed while its holder lives."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tasks.errors import BusyError, LockstepError, TransientError
from tasks.ledger.tables import WRITERS
from tasks.retries import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger.database import Database

LASTS_MS = 90_000
RENEWED_EVERY_SECONDS = 5.0
JOINED_SECONDS = 10.0
ASKED_EVERY_SECONDS = 0.5
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that nobody sets and that goes on while the machine sleeps, as the lease does. CLOCK_MONOTONIC stops then on
Linux."""


def elapsed() -> float:
    """Return seconds since a fixed moment, on a clock that is never set and never stops."""
    return time.clock_gettime(_CLOCK)


def take(ledger: Database, collection: str, holder: str, described: str) -> str | None:
    """Try to become the writer of a collection. Return None, or a description of the current writer."""
    mine = {"holder": holder, "described": described[:255], "expires_at": ledger.clock + LASTS_MS}
    free = sa.or_(WRITERS.c.expires_at < ledger.clock, WRITERS.c.holder == holder)
    with ledger.transaction() as connection:
        connection.execute(sa.update(WRITERS).where(WRITERS.c.collection == collection, free).values(mine))
        connection.execute(ledger.insert(WRITERS).values(collection=collection, **mine).on_conflict_do_nothing())
        query = sa.select(WRITERS.c.holder, WRITERS.c.described).where(WRITERS.c.collection == collection)
        writer = connection.execute(query).one_or_none()
    if writer is None:  # the other writer has just left, so the caller asks again
        return "another run that is just ending"
    return None if writer.holder == holder else str(writer.described)


def extend(ledger: Database, collection: str, holder: str) -> bool:
    """Renew a lease, and return whether the holder still owns it.

    An expired lease that nobody took can be renewed. One that another holder took, even briefly, cannot."""
    mine = sa.and_(WRITERS.c.collection == collection, WRITERS.c.holder == holder)
    with ledger.transaction() as connection:
        done = connection.execute(sa.update(WRITERS).where(mine).values(expires_at=ledger.clock + LASTS_MS))
    return done.rowcount == 1


def release(ledger: Database, collection: str, holder: str) -> None:
    """Release a lease for the next writer."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(WRITERS).where(WRITERS.c.collection == collection, WRITERS.c.holder == holder))


def next_of(alias: str) -> str:
    """Return the name of the lease for building, measuring or dropping generations of an alias."""
    return f"the next generation of '{alias}'"


def line_of(alias: str) -> str:
    """Return the name of the lease of the only sync that waits for a writer."""
    return f"the next sync of '{alias}'"


def watch_of(alias: str) -> str:
    """Return the name of the lease of the process that watches the bucket of an alias."""
    return f"the watch of '{alias}'"


@contextmanager
def writing(
    ledger: Database, collection: str, described: str, wait_seconds: float, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Be the only writer of a collection, among all processes and machines.

    Waits for another writer up to ``wait_seconds``, then raises ``BusyError`` with its description. The lease of a
    writer that died ends after 90 s. Yields a function to call before each write. It raises ``LockstepError`` if the
    lease was lost, as after a long sleep of the machine. It raises ``TransientError`` while too little of the lease is
    left for a write.
    """
    holder = uuid.uuid4().hex
    deadline = elapsed() + wait_seconds
    waiting = False
    asked = elapsed()
    while other := patiently(take)(ledger, collection, holder, described):
        if elapsed() >= deadline:
            raise BusyError(
                f"{collection} is being written by {other}; waited {wait_seconds:g} s. Try again when it is done."
            )
        if not waiting:
            patience = "until it is done" if math.isinf(wait_seconds) else f"up to {wait_seconds:g} s"
            say(f"{collection} is being written by {other}; waiting {patience}")
            waiting = True
        time.sleep(ASKED_EVERY_SECONDS)
        asked = elapsed()
    lease = _Lease(ledger, collection, holder, asked)
    renewal = threading.Thread(target=lease.renew, daemon=True)
    renewal.start()
    try:
        yield lease.check
    finally:
        lease.done.set()
        renewal.join(JOINED_SECONDS)  # do not wait longer for a silent database
        with suppress(TransientError):  # the lease ends by itself
            release(ledger, collection, holder)


class _Lease:
    """A lease that this process took, the time until which it surely holds, and whether another writer took it."""

    def __init__(self, ledger: Database, collection: str, holder: str, asked: float) -> None:
        self._of = (ledger, collection, holder)
        self.until = asked + LASTS_MS / 1000  # counted from before the request, because the answer may be slow
        self.lost = False
        self.done = threading.Event()

    def check(self) -> None:
        left = self.until - elapsed()
        if self.lost:
            raise LockstepError(
                f"this run is no longer the writer of {self._of[1]}. The next sync goes on with its work."
            )
        if left < LASTS_MS / 2000:
            raise TransientError(
                f"this run could not renew its lease of {self._of[1]} in time, so it may be no longer the writer. It "
                "writes nothing until the ledger answers. Is the ledger up?"
            )

    def renew(self) -> None:
        while not self.done.wait(RENEWED_EVERY_SECONDS):
            with suppress(LockstepError):  # a lease outlasts many failed renewals, and `check` knows when it is over
                until = elapsed() + LASTS_MS / 1000
                if extend(*self._of):
                    self.until = until
                else:
                    self.lost = True


def writer_of(ledger: Database, collection: str) -> str | None:
    """Return the description of the run that writes a collection now, or None if none does."""
    query = sa.select(WRITERS.c.described).where(
        WRITERS.c.collection == collection, WRITERS.c.expires_at >= ledger.clock
    )
    with ledger.transaction() as connection:
        return connection.execute(query).scalar()


def end_lease(ledger: Database, collection: str, described: str) -> None:
    """End the lease of a holder that is known to be dead. Only for a lease whose two holders would do no harm."""
    of_it = sa.and_(WRITERS.c.collection == collection, WRITERS.c.described == described)
    with ledger.transaction() as connection:
        connection.execute(sa.delete(WRITERS).where(of_it))
