"""Compare two evaluations of the same questions: their differences, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.evaluation.evaluate import Evaluation, Outcome
from tasks.evaluation.metrics import DEPTH, NAMES

RESAMPLES = 5000
SEED = 20
MOST = 10
"""Questions to show that got better, and as many that got worse."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The improvement of a measure, with the bounds of its 95% confidence interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Change:
    """A question, and the rank of its first relevant object before and now, from 1; None if not in the top ten."""

    question: str
    before: int | None
    now: int | None

    @property
    def gained(self) -> int:
        """Ranks gained. An object that is not in the top ten counts as rank 11."""
        return (self.before or DEPTH + 1) - (self.now or DEPTH + 1)


def differences(new: Evaluation, old: Evaluation) -> dict[str, Difference]:
    """Return the improvement of ``new`` over ``old`` by measure: the mean, and its interval by paired bootstrap.

    The bootstrap resamples the questions 5,000 times, each with both results (`scipy.stats.bootstrap`, percentiles).
    """
    pairs = _paired(new, old)
    return {name: interval([n.measures[name] - o.measures[name] for n, o in pairs]) for name in NAMES}


def interval(values: Sequence[float]) -> Difference:
    """Return the mean of some values with its 95% interval, from 5,000 bootstrap samples."""
    import numpy as np
    from scipy.stats import bootstrap

    middle = round(float(np.mean(values)), 4) if values else 0.0
    if len(set(values)) < 2:  # the bootstrap needs at least two different values
        return Difference(middle, middle, middle)
    drawn = bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=SEED).confidence_interval
    return Difference(middle, round(float(drawn.low), 4), round(float(drawn.high), 4))


def changes(new: Evaluation, old: Evaluation) -> list[Change]:
    """Return the change of rank of each question that has a relevant object, in order."""
    return [Change(n.question, o.rank, n.rank) for n, o in _paired(new, old)]


def better(found: Sequence[Change]) -> list[Change]:
    """Return the questions that gained most ranks, the largest gain first."""
    return sorted((one for one in found if one.gained > 0), key=lambda one: -one.gained)[:MOST]


def worse(found: Sequence[Change]) -> list[Change]:
    """Return the questions that lost most ranks, the largest loss first."""
    return sorted((one for one in found if one.gained < 0), key=lambda one: one.gained)[:MOST]


def _paired(new: Evaluation, old: Evaluation) -> list[tuple[Outcome, Outcome]]:
    return list(zip(new.answerable, old.answerable, strict=True))


def as_json(found: dict[str, Difference]) -> dict[str, Any]:
    """Return differences by measure in the form of `lockstep evaluate --json`."""
    return {name: asdict(one) for name, one in found.items()}
