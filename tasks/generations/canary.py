"""Let a share of the questions come to a generation that is not live yet, and watch how they fare.

Which share, since when and what is next stands in the ledger, so that every process that answers questions knows
it, and a promotion that died is gone on with. Which questions: those whose hash falls into the share, so that the
same question, or the same session, goes the same way each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tasks.crash_points import between
from tasks.errors import LockstepError, MisuseError
from tasks.evaluation.index_recall import percentile
from tasks.ledger.generations import generation_of
from tasks.ledger.objects import Ledger, now
from tasks.ledger.tables import ASKED, CANARIES
from tasks.retries import patiently

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

LATEST = 10_000
"""So many of the latest questions are compared at the most."""


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


@dataclass(frozen=True, slots=True)
class Fared:
    """How the questions of one generation fared; ``p95`` in seconds, ``best`` the mean cosine of the nearest chunk."""

    questions: int
    errors: float
    p95: float
    abstention: float
    best: float


def checked_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the steps. Raises ``MisuseError`` unless they are percentages that rise, the first one under 100."""
    in_range = all(1 <= share <= 100 for share in steps)
    if not steps or list(steps) != sorted(set(steps)) or not in_range or steps[0] == 100:
        raise MisuseError(
            f"--canary {','.join(map(str, steps))} will not do: percentages that rise, as in 10,50,100. The first is "
            "under 100, so that some questions come to the live generation, to compare with."
        )
    return tuple(steps)


def breaches(new: Fared, live: Fared, settings: Settings) -> list[str]:
    """Return in which ways the new generation does worse than it may, beside the live one; none when it may go on."""
    if new.questions < settings.canary_questions:
        return [f"only {new.questions} questions came to it, fewer than {settings.canary_questions} (canary_questions)"]
    if not live.questions and settings.canary_questions:
        return ["no question came to the live generation, so there is nothing to compare with"]
    found = []
    live_too = live.questions and new.questions
    if new.errors > live.errors + settings.canary_errors:
        found.append(f"{new.errors:.1%} of its questions failed, live {live.errors:.1%}")
    if live_too and new.p95 > live.p95 * settings.canary_latency:
        found.append(f"p95 is {new.p95:.3f} s, live {live.p95:.3f} s (at most × {settings.canary_latency:g})")
    if live_too and new.abstention > live.abstention + settings.canary_abstention:
        found.append(f"{new.abstention:.1%} of its questions were abstained from, live {live.abstention:.1%}")
    if live_too and new.best < live.best - settings.canary_score:
        found.append(f"the mean best score is {new.best:.3f}, live {live.best:.3f}")
    return found


def canary_of(ledger: Ledger, alias: str) -> Canary | None:
    """Return the canary that is under way, if there is one."""
    with ledger.transaction() as connection:
        row = connection.execute(sa.select(CANARIES).where(CANARIES.c.alias == alias)).mappings().one_or_none()
    return Canary(**{**row, "steps": tuple(row["steps"])}) if row else None


@patiently
def begin_canary(ledger: Ledger, canary: Canary) -> None:
    """Record a canary, in place of any other, and forget the questions asked during that one."""
    row = {name: getattr(canary, name) for name in Canary.__slots__} | {"steps": list(canary.steps)}
    with ledger.transaction() as connection:
        for table in (CANARIES, ASKED):
            connection.execute(sa.delete(table).where(table.c.alias == canary.alias))
        connection.execute(sa.insert(CANARIES).values(row))
    between("canary begun")


@patiently
def next_step(ledger: Ledger, alias: str, step: int) -> None:
    """Record that a canary is in another step from now on."""
    with ledger.transaction() as connection:
        connection.execute(sa.update(CANARIES).where(CANARIES.c.alias == alias).values(step=step, since=now()))
    between("canary step taken")


@patiently
def end_canary(ledger: Ledger, alias: str) -> None:
    """Take the share back to 0: from now on the alias alone says what answers."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(CANARIES).where(CANARIES.c.alias == alias))


@patiently
def fared(ledger: Ledger, alias: str, collection: str, since: int = 0) -> Fared:
    """Return how the questions of a collection fared since a time in ms."""
    of_it = (ASKED.c.alias == alias, ASKED.c.collection == collection, ASKED.c.at >= since)
    query = sa.select(ASKED).where(*of_it).order_by(ASKED.c.id.desc()).limit(LATEST)
    with ledger.transaction() as connection:
        rows = connection.execute(query).mappings().all()
    answered = [row for row in rows if not row["failed"]]
    count = max(len(answered), 1)
    return Fared(
        questions=len(rows),
        errors=(len(rows) - len(answered)) / max(len(rows), 1),
        p95=percentile([row["seconds"] for row in answered], 95) if answered else 0.0,
        abstention=sum(row["abstained"] for row in answered) / count,
        best=sum(row["best"] for row in answered) / count,
    )


class Watch:
    """What who asks has to know of a canary, looked up once; and where it notes how its questions fared.

    Questions are answered also while the ledger is down: then by the live generation, and not noted.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.alias, self._block = pipeline.alias, pipeline.ledger
        self.canary: Canary | None = None
        self.sources: dict[str, dict[str, Any] | None] | None = None
        """Which bucket each generation holds, as far as the ledger knows; None while it does not answer."""
        self._search_params: dict[str, Any] | None = None
        with suppress(LockstepError):
            self._with_ledger(self._look)

    def _look(self, ledger: Ledger) -> None:
        self.sources = ledger.sources(self.alias)
        if found := canary_of(ledger, self.alias):
            known = generation_of(ledger, self.alias, found.collection)
            self._search_params = known.search_params if known else None
            self.canary = found

    def collection(self, live: str, asker: str) -> str:
        """Return what answers this question or session: the live collection, or the one in canary."""
        # A canary beside another live generation is over: the alias was moved.
        return self.canary.serves(asker) if self.canary and self.canary.live == live else live

    def search_params(self, collection: str) -> dict[str, Any] | None:
        """Return what the collection in canary is searched with; None for any other, whose pipeline has them."""
        return self._search_params if self.canary and self.canary.collection == collection else None

    def note(self, collection: str, seconds: float, best: float | None, abstained: bool = False) -> None:
        """Note how a question fared: ``best`` is the nearest chunk's cosine, None when it failed."""
        if self.canary:
            row = {"alias": self.alias, "collection": collection, "at": now(), "seconds": seconds, "best": best}
            with suppress(LockstepError):
                self._with_ledger(_insert, {**row, "abstained": abstained, "failed": best is None})

    def _with_ledger(self, call: Any, *args: Any) -> Any:
        ledger = Ledger(self._block)
        try:
            return call(ledger, *args)
        finally:
            ledger.engine.dispose()


def _insert(ledger: Ledger, row: dict[str, Any]) -> None:
    with ledger.transaction() as connection:
        connection.execute(sa.insert(ASKED).values(row))
