"""Which generations are dropped."""

from __future__ import annotations

import pytest

from blocks.settings import Settings
from tasks.generations.retention import MS_AN_HOUR, to_drop
from tasks.ledger.generations import Generation

NOW = 1_700_000_000_000


def generation(number: int, retired: float | None = None, created: float = 1000, ready: bool = True) -> Generation:
    """One that was created and retired so many hours ago."""
    at = None if retired is None else int(NOW - retired * MS_AN_HOUR)
    begun = int(NOW - created * MS_AN_HOUR)
    times = (begun, begun if ready else None, begun if at else None, at)
    return Generation(f"docs_g{number:04d}", "", {}, *times, 0, 0, 0.0, [], None, {}, None)


def dropped(known: list[Generation], live: str | None = "docs_g0004", **settings: float) -> list[int]:
    return [
        one.number
        for one in to_drop(known, live, Settings(**{"keep_generations": 2, "keep_hours": 24, **settings}), NOW)
    ]


KNOWN = [generation(4), generation(3, retired=100), generation(2, retired=200), generation(1, retired=300)]


@pytest.mark.parametrize(
    ("known", "settings", "numbers"),
    [
        (KNOWN, {}, [2, 1]),
        (KNOWN, {"keep_generations": 1}, [3, 2, 1]),
        (KNOWN, {"keep_generations": 9}, []),
        (KNOWN, {"keep_hours": 250}, [1]),
        ([generation(5, ready=False), *KNOWN], {}, [2, 1]),
        ([generation(4), generation(3, created=100, ready=False), generation(2, retired=200)], {}, [3]),
        ([generation(4), generation(3, created=1), generation(2, retired=200)], {}, []),
        # Whose number is lower may have been live later, after a rollback.
        (
            [generation(4), generation(3, retired=100), generation(2, retired=50), generation(1, retired=300)],
            {},
            [3, 1],
        ),
        (KNOWN, {"keep_generations": 1, "keep_hours": 200}, [2, 1]),
    ],
)
def test_the_latest_stay_and_those_that_are_newer(
    known: list[Generation], settings: dict[str, float], numbers: list[int]
) -> None:
    assert dropped(known, **settings) == numbers


def test_after_a_rollback_the_newer_one_stays_though_it_is_retired() -> None:
    """It is the latest that was live; older ones go."""
    known = [generation(4, retired=30), generation(3), generation(2, retired=200)]
    assert dropped(known, "docs_g0003") == [2]


def test_nothing_is_dropped_while_nothing_is_live() -> None:
    assert dropped(KNOWN, None) == []
    assert dropped(KNOWN, "docs_g0099") == []
