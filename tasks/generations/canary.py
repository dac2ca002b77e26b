"""Send a share of the questions to a generation that is not live yet, and compare how they fare.

Which share, since when and what is next stands in the ledger, so that every process that answers questions knows
it, and a promotion that died is gone on with. Which questions: those whose hash falls into the share, so that the
same question, or the same session, goes the same way each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from tasks.errors import MisuseError
from tasks.ledger.database import Database
from tasks.ledger.tables import ASKED
from tasks.retries import patiently

if TYPE_CHECKING:
    from blocks.settings import Settings

LATEST = 10_000
"""So many of the latest questions are compared at the most."""


@dataclass(frozen=True, slots=True)
class QuestionStats:
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
            f"--canary {','.join(map(str, steps))} is invalid: it needs rising percentages such as 10,50,100. The "
            "first is under 100, so that some questions come to the live generation, to compare with."
        )
    return tuple(steps)


def breaches(new: QuestionStats, live: QuestionStats, settings: Settings) -> list[str]:
    """Return the limits that the canary exceeds beside the live generation; none if it may go on."""
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


@patiently
def fared(ledger: Database, alias: str, collection: str, since: int = 0) -> QuestionStats:
    """Return how the questions of a collection fared since a time in ms."""
    of_it = (ASKED.c.alias == alias, ASKED.c.collection == collection, ASKED.c.at >= since)
    query = sa.select(ASKED).where(*of_it).order_by(ASKED.c.id.desc()).limit(LATEST)
    with ledger.transaction() as connection:
        rows = connection.execute(query).mappings().all()
    answered = [row for row in rows if not row["failed"]]
    count = max(len(answered), 1)
    return QuestionStats(
        questions=len(rows),
        errors=(len(rows) - len(answered)) / max(len(rows), 1),
        p95=float(np.percentile([row["seconds"] for row in answered], 95)) if answered else 0.0,
        abstention=sum(row["abstained"] for row in answered) / count,
        best=sum(row["best"] for row in answered) / count,
    )
