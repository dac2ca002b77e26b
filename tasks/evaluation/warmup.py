"""Search a generation until its latency has settled, before it answers.

The first searches of a generation load it from disk and take longer than later ones. The warm-up searches for vectors
of the generation's own chunks. They need neither a model nor the text of anybody's question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, TypeVar

from prefect import task

from tasks.errors import LockstepError
from tasks.evaluation.index_recall import percentile, search
from tasks.task_runs import ONCE, run_logger

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.milvus.store import Store

T = TypeVar("T")

VECTORS = 64
ROUND = 16
"""Searches whose median is compared with that of the round before."""
SETTLED = 0.9
"""A round that takes more than this share of the one before shows that nothing is gained any more."""
LONGEST_SECONDS = 5.0
"""No round begins after this time: who rolls back is in a hurry."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """How many searches it took, and how long one took at first and at last, in milliseconds (medians of a round)."""

    searches: int
    first_ms: float
    last_ms: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.searches} searches, from {self.first_ms:.1f} to {self.last_ms:.1f} ms each"


def warmth(store: Store, collection: str, settings: Settings) -> Warmth:
    """Search a generation with the search parameters of questions until a search takes no less time than before.

    Changes nothing. An empty generation takes no searches. Raises what a search raises.
    """
    rows = list(islice(store.rows(collection, ["embedding"], at_once=VECTORS), VECTORS))
    return settle(lambda row: search(store, collection, row["embedding"], settings), rows)


@task(name="warm up", task_run_name="warm {collection} up", **ONCE)
def warm(store: Store, collection: str, settings: Settings) -> Warmth | None:
    """Warm a generation up before a swap. None if a search fails: a swap does not wait for its warm-up."""
    try:
        done = warmth(store, collection, settings)
    except LockstepError as error:
        run_logger().warning("%s was not warmed up: %s", collection, error)
        return None
    run_logger().info("%s is warm: %s", collection, done)
    return done


def settle(look: Callable[[T], object], asked: Sequence[T]) -> Warmth:
    """Call ``look`` with what is asked, in rounds, until the median of a round has settled."""
    medians: list[float] = []
    until, turn = time.monotonic() + LONGEST_SECONDS, cycle(asked)
    while asked and not _settled(medians) and time.monotonic() < until:
        medians.append(percentile([_seconds(look, next(turn)) for _ in range(ROUND)], 50))
    if not medians:
        return Warmth(0, 0.0, 0.0)
    return Warmth(ROUND * len(medians), 1000 * medians[0], 1000 * medians[-1])


def _settled(medians: Sequence[float]) -> bool:
    return len(medians) > 1 and medians[-1] > SETTLED * medians[-2]


def _seconds(look: Callable[[T], object], asked: T) -> float:
    began = time.perf_counter()
    look(asked)
    return time.perf_counter() - began
