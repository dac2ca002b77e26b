"""One writer a generation: a lease in the ledger, renewed while its holder lives."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tasks.errors import LockstepError, TransientError
from tasks.ledger import now
from tasks.ledger_tables import WRITERS
from tasks.retries import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger import Ledger

LASTS_MS = 30_000
RENEWED_EVERY_SECONDS = 5.0
ASKED_EVERY_SECONDS = 0.5


def take(ledger: Ledger, collection: str, holder: str, described: str) -> str | None:
    """Try to become the writer of a collection; returns None, or who is writing."""
    mine = {"holder": holder, "described": described[:255], "expires_at": now() + LASTS_MS}
    free = sa.or_(WRITERS.c.expires_at < now(), WRITERS.c.holder == holder)
    with ledger.transaction() as connection:
        connection.execute(sa.update(WRITERS).where(WRITERS.c.collection == collection, free).values(mine))
        connection.execute(ledger.insert(WRITERS).on_conflict_do_nothing(), {"collection": collection, **mine})
        query = sa.select(WRITERS.c.holder, WRITERS.c.described).where(WRITERS.c.collection == collection)
        writer = connection.execute(query).one_or_none()
    if writer is None:  # it left just now: ask again
        return "another run that is just ending"
    return None if writer.holder == holder else str(writer.described)


def extend(ledger: Ledger, collection: str, holder: str) -> bool:
    """Hold a lease for longer; returns whether it was still there to be held. One that ended and that nobody took
    meanwhile is; one that another had, if only for a moment, is not."""
    mine = sa.and_(WRITERS.c.collection == collection, WRITERS.c.holder == holder)
    with ledger.transaction() as connection:
        done = connection.execute(sa.update(WRITERS).where(mine).values(expires_at=now() + LASTS_MS))
    return done.rowcount == 1


def release(ledger: Ledger, collection: str, holder: str) -> None:
    """Free the way for the next writer."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(WRITERS).where(WRITERS.c.collection == collection, WRITERS.c.holder == holder))


def next_of(alias: str) -> str:
    """Return the name of the lease that who builds, measures or drops generations holds."""
    return f"the next generation of '{alias}'"


@contextmanager
def writing(
    ledger: Ledger, collection: str, described: str, wait_seconds: float, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Be the only writer of a collection, from any process or machine.

    Waits for another writer up to ``wait_seconds``, then raises ``TransientError`` naming it. A writer
    that died frees the way by itself when its lease ends, after 30 s. Yields what to call before each
    write: it raises ``LockstepError`` when the lease was lost, as after a long sleep of the machine.
    """
    holder = uuid.uuid4().hex
    deadline = time.monotonic() + wait_seconds
    waiting = False
    asked = time.time() * 1000
    while other := patiently(take)(ledger, collection, holder, described):
        if time.monotonic() >= deadline:
            raise TransientError(
                f"{collection} is being written by {other}; waited {wait_seconds:g} s. Try again when it is done."
            )
        if not waiting:
            say(f"{collection} is being written by {other}; waiting up to {wait_seconds:g} s")
            waiting = True
        time.sleep(ASKED_EVERY_SECONDS)
        asked = time.time() * 1000
    done, held_until = threading.Event(), [asked + LASTS_MS]

    def check() -> None:
        if time.time() * 1000 > held_until[0]:
            raise LockstepError(
                f"this run is no longer the writer of {collection}: the next sync goes on with its work"
            )

    def renew() -> None:
        while not done.wait(RENEWED_EVERY_SECONDS):
            with suppress(LockstepError):  # the lease lasts six renewals, and `check` knows when it is over
                until = time.time() * 1000 + LASTS_MS
                held_until[0] = until if extend(ledger, collection, holder) else 0

    renewal = threading.Thread(target=renew, daemon=True)
    renewal.start()
    try:
        yield check
    finally:
        done.set()
        renewal.join()
        with suppress(TransientError):  # then it ends by itself
            release(ledger, collection, holder)
