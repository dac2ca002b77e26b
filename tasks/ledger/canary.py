"""The canary that is under way, and how its questions fared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.crash_points import crash_point
from tasks.ledger.database import Database, now
from tasks.ledger.tables import ASKED, CANARIES
from tasks.retries import patiently


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary under way: ``steps`` are shares in percent, ``step`` the place in them, from 0; times in ms."""

    alias: str
    collection: str
    live: str
    steps: tuple[int, ...]
    step: int
    hold_seconds: float
    since: int

    @property
    def share(self) -> int:
        """The percentage of questions that come to it now."""
        return self.steps[self.step]

    @property
    def until(self) -> float:
        """When the step is over, in ms since 1970."""
        return self.since + 1000 * self.hold_seconds

    def serves(self, asker: str) -> str:
        """Return the collection that answers a question, or a session."""
        point = int.from_bytes(hashlib.sha256(asker.encode()).digest()[:8], "big") % 100
        return self.collection if point < self.share else self.live


def canary_of(ledger: Database, alias: str) -> Canary | None:
    """Return the canary that is under way, if there is one."""
    with ledger.transaction() as connection:
        row = connection.execute(sa.select(CANARIES).where(CANARIES.c.alias == alias)).mappings().one_or_none()
    return Canary(**{**row, "steps": tuple(row["steps"])}) if row else None


@patiently
def begin_canary(ledger: Database, canary: Canary) -> None:
    """Record a canary, in place of any other, and forget the questions asked during that one."""
    row = {name: getattr(canary, name) for name in Canary.__slots__} | {"steps": list(canary.steps)}
    with ledger.transaction() as connection:
        for table in (CANARIES, ASKED):
            connection.execute(sa.delete(table).where(table.c.alias == canary.alias))
        connection.execute(sa.insert(CANARIES).values(row))
    crash_point("canary begun")


@patiently
def next_step(ledger: Database, alias: str, step: int) -> None:
    """Record that a canary is in another step from now on."""
    with ledger.transaction() as connection:
        connection.execute(sa.update(CANARIES).where(CANARIES.c.alias == alias).values(step=step, since=now()))
    crash_point("canary step taken")


@patiently
def end_canary(ledger: Database, alias: str) -> None:
    """End the canary: from now on the alias alone decides which generation answers."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(CANARIES).where(CANARIES.c.alias == alias))


def note_question(ledger: Database, row: dict[str, Any]) -> None:
    """Record how a question fared."""
    with ledger.transaction() as connection:
        connection.execute(sa.insert(ASKED).values(row))
