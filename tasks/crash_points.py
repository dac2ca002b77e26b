"""The crash points: places between two side effects, where a run may die after the first and before the second.

Each has its name here and a call in the code. A test kills a real process at each crash point, runs the sync
again and audits. A new side effect needs a new name here.

    generation   ledger ▸ collection made ▸ indexed
    source       ledger ▸ collection
    swap         ready ▸ alias ▸ pipeline follows ▸ ledger
    canary       begun ▸ another step
    garbage      collection dropped ▸ ledger
    adoption     found keys doubted ▸ ledger
    plan         wanted recorded ▸ deletions recorded
    batch        some rows written ▸ all written ▸ some chunks deleted ▸ all deleted ▸ recorded
    deletion     some chunks deleted ▸ gone from Milvus ▸ forgotten
    end          leftovers deleted ▸ failures judged
    repair       doubts recorded
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

CrashPoint = Literal[
    "generation recorded",
    "collection made",
    "generation created",
    "source recorded",
    "marked ready",
    "alias moved",
    "pipeline follows",
    "canary begun",
    "canary step taken",
    "collection dropped",
    "found keys doubted",
    "wanted recorded",
    "deletions recorded",
    "some rows written",
    "batch written",
    "some chunks deleted",
    "batch pruned",
    "batch recorded",
    "gone deleted",
    "gone forgotten",
    "leftovers deleted",
    "failures judged",
    "doubts recorded",
]
CRASH_POINTS: tuple[CrashPoint, ...] = get_args(CrashPoint)

listeners: list[Callable[[CrashPoint], None]] = []
"""Called at each crash point. Empty, except in tests."""


def crash_point(place: CrashPoint) -> None:
    """Mark a place between two side effects."""
    for listen in listeners:
        listen(place)
