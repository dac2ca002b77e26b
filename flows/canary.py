"""Send a growing share of the questions to a new generation, as long as its answers are as good as the live one's.

share 10 % ──hold──▶ compare ──as good──▶ share 50 % ──hold──▶ compare ──▶ …
                        └─ worse ──▶ share 0, Failed, with the figures
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.prefect_runs import rename_run
from tasks.errors import GateError, RejectedError
from tasks.generations.canary import QuestionStats, breaches, checked_steps, fared
from tasks.ledger.canary import Canary, begin_canary, canary_of, end_canary, next_step
from tasks.ledger.database import now
from tasks.resources import Resources
from tasks.retries import patiently

LOOKED_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a canary: the share of the questions in percent, the statistics of both sides, and the breaches."""

    share: int
    new: QuestionStats
    live: QuestionStats
    breaches: tuple[str, ...]

    def as_row(self, collection: str) -> dict[str, Any]:
        """Return a row of the table artifact."""
        sides = {"": self.new, "live ": self.live}
        figures = {f"{of}{name}": round(value, 4) for of, side in sides.items() for name, value in asdict(side).items()}
        return {"share": f"{self.share}%", "of": collection, **figures, "breaches": "; ".join(self.breaches) or "none"}


def planned(
    resources: Resources, collection: str, live: str | None, steps: Sequence[int], hold_seconds: float
) -> Canary | None:
    """Return the canary to hold: the requested one, or one that an earlier run left running; None without either."""
    if steps and live:
        checked = checked_steps(steps)
        return Canary(resources.store.alias, collection, live, checked, 0, hold_seconds, 0)
    canary = patiently(canary_of)(resources.ledger, resources.store.alias)
    return canary if canary and (canary.collection, canary.live) == (collection, live) else None


@flow(name="canary", flow_run_name="canary")
def canary(resources: Resources, chosen: Canary) -> None:
    """Hold a canary step by step, from its current step. The last share stays until the alias is moved.

    Raises ``GateError`` with the statistics when the new generation does worse, and ``RejectedError`` when somebody
    ended the canary. Then only the live generation answers.
    """
    logger, alias = get_run_logger(), chosen.alias
    if chosen.since:  # a resumed canary: questions from the time without a run do not count
        next_step(resources.ledger, alias, chosen.step)
        chosen = at(chosen, chosen.step)
    else:
        begin_canary(resources.ledger, chosen := at(chosen, chosen.step))
    done: list[Step] = []
    while True:
        rename_run(f"canary {chosen.collection}: {chosen.share}% of the questions")
        logger.info("%s answers %s%% of the questions for %g s", chosen.collection, chosen.share, chosen.hold_seconds)
        hold(resources, chosen)
        done.append(judged(resources, chosen))
        create_table_artifact(
            [step.as_row(chosen.collection) for step in done],
            key=f"canary-{alias.lower().replace('_', '-')}",
            description=f"Questions to {chosen.collection}, compared with questions to {chosen.live}",
        )
        if done[-1].breaches:
            end_canary(resources.ledger, alias)
            raise GateError(
                f"the canary of {chosen.collection} was ended at {chosen.share}% of the questions: "
                f"{'; '.join(done[-1].breaches)}. {chosen.live} answers all questions again.",
                done,
            )
        if chosen.step + 1 == len(chosen.steps):
            return
        chosen = at(chosen, chosen.step + 1)
        next_step(resources.ledger, alias, chosen.step)


def at(chosen: Canary, step: int) -> Canary:
    """Return the canary at a step that begins now."""
    return Canary(chosen.alias, chosen.collection, chosen.live, chosen.steps, step, chosen.hold_seconds, now())


def hold(resources: Resources, chosen: Canary) -> None:
    """Wait until the step is over. Raises ``RejectedError`` when the canary was ended meanwhile."""
    while True:
        canary = patiently(canary_of)(resources.ledger, chosen.alias)
        if canary is None or canary.collection != chosen.collection:
            raise RejectedError(
                f"{chosen.collection} was not promoted: somebody ended its canary. Run `lockstep promote` to try again."
            )
        if now() >= chosen.until:
            return
        time.sleep(min(LOOKED_EVERY_SECONDS, max(0.0, (chosen.until - now()) / 1000)))


def judged(resources: Resources, chosen: Canary) -> Step:
    """Compare the questions of this step with those of the live generation.

    The live questions are those of the same step, or, if they are too few, those since the canary began.
    """
    new = fared(resources.ledger, chosen.alias, chosen.collection, chosen.since)
    live = fared(resources.ledger, chosen.alias, chosen.live, chosen.since)
    if live.questions < resources.settings.canary_questions:
        live = fared(resources.ledger, chosen.alias, chosen.live)
    return Step(chosen.share, new, live, tuple(breaches(new, live, resources.settings)))
