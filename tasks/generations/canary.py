"""Send a share of the questions to a generation that is not live yet, and compare the outcomes.

The ledger holds the share, its start and the next steps. So every process that answers questions knows them, and a
promotion that died can continue. A question goes to the new generation if its hash falls into the share. So the same
question, or the same session, goes the same way each time.
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
"""The maximum number of questions to compare, the latest ones."""


@dataclass(frozen=True, slots=True)
class QuestionStats:
    """The outcomes of one generation's questions, with errors and abstention as shares.

    ``p95`` is in seconds. ``best`` is the mean cosine similarity of the nearest chunk.
    """

    questions: int
    errors: float
    p95: float
    abstention: float
    best: float


def checked_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the steps. Raises ``MisuseError`` unless they are rising percentages, the first one under 100."""
    in_range = all(1 <= share <= 100 for share in steps)
    if not steps or list(steps) != sorted(set(steps)) or not in_range or steps[0] == 100:
        raise MisuseError(
            f"--canary {','.join(map(str, steps))} is invalid: it needs rising percentages such as 10,50,100. The "
            "first must be under 100, so that the live generation answers some questions for comparison."
        )
    return tuple(steps)


def breaches(new: QuestionStats, live: QuestionStats, settings: Settings) -> list[str]:
    """Return in which ways the new generation is worse than the live one by more than the settings allow."""
    if new.questions < settings.canary_questions:
        return [f"it got only {new.questions} questions, fewer than {settings.canary_questions} (canary_questions)"]
    if not live.questions and settings.canary_questions:
        return ["the live generation got no question, so there is nothing to compare with"]
    found = []
    live_too = live.questions and new.questions
    if new.errors > live.errors + settings.canary_errors:
        found.append(f"{new.errors:.1%} of its questions failed, live {live.errors:.1%}")
    if live_too and new.p95 > live.p95 * settings.canary_latency:
        found.append(f"p95 is {new.p95:.3f} s, live {live.p95:.3f} s (at most × {settings.canary_latency:g})")
    if live_too and new.abstention > live.abstention + settings.canary_abstention:
        found.append(f"it abstained from {new.abstention:.1%} of its questions, live from {live.abstention:.1%}")
    if live_too and new.best < live.best - settings.canary_score:
        found.append(f"the mean best score is {new.best:.3f}, live {live.best:.3f}")
    return found


@patiently
def fared(ledger: Database, alias: str, collection: str, since: int = 0) -> QuestionStats:
    """Return the outcomes of a collection's questions since a time in ms since 1970."""
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
