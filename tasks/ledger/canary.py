"""The current canary, and the outcomes of the questions asked during it."""

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
    """A current canary. ``steps`` are shares in percent, ``step`` is the index of the current one, from 0.

    ``since`` is in ms since 1970.
    """

    alias: str
    collection: str
    live: str
    steps: tuple[int, ...]
    step: int
    hold_seconds: float
    since: int

    @property
    def share(self) -> int:
        """The percentage of questions that the new generation answers now."""
        return self.steps[self.step]

    @property
    def until(self) -> float:
        """The end of the step, in ms since 1970."""
        return self.since + 1000 * self.hold_seconds

    def serves(self, asker: str) -> str:
        """Return the collection that answers ``asker``: a question, or a session."""
        point = int.from_bytes(hashlib.sha256(asker.encode()).digest()[:8], "big") % 100
        return self.collection if point < self.share else self.live


CANARY = sa.select(CANARIES).where(CANARIES.c.alias == sa.bindparam("of_alias"))
"""Made once, as each question runs it."""


def canary_of(ledger: Database, alias: str) -> Canary | None:
    """Return the current canary of an alias, or None if there is none."""
    with ledger.connected() as connection:
        row = connection.execute(CANARY, {"of_alias": alias}).mappings().one_or_none()
    return Canary(**{**row, "steps": tuple(row["steps"])}) if row else None


@patiently
def begin_canary(ledger: Database, canary: Canary) -> None:
    """Record a canary in place of any earlier one, and delete the questions of that one."""
    row = {name: getattr(canary, name) for name in Canary.__slots__} | {"steps": list(canary.steps)}
    with ledger.transaction() as connection:
        for table in (CANARIES, ASKED):
            connection.execute(sa.delete(table).where(table.c.alias == canary.alias))
        connection.execute(sa.insert(CANARIES).values(row))
    crash_point("canary begun")


@patiently
def next_step(ledger: Database, alias: str, step: int) -> None:
    """Record that a canary enters a step now."""
    with ledger.transaction() as connection:
        connection.execute(sa.update(CANARIES).where(CANARIES.c.alias == alias).values(step=step, since=now()))
    crash_point("canary step taken")


@patiently
def end_canary(ledger: Database, alias: str) -> None:
    """End a canary. From now on the alias alone decides which generation answers."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(CANARIES).where(CANARIES.c.alias == alias))


def note_question(ledger: Database, row: dict[str, Any]) -> None:
    """Record the outcome of a question."""
    with ledger.transaction() as connection:
        connection.execute(sa.insert(ASKED).values(row))
