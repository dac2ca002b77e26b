"""A generation is searched until a search takes no less time than before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.evaluation import warmup
from tasks.evaluation.warmup import ROUND, Warmth, settle


class Clock:
    """A clock that only what is done moves on."""

    def __init__(self) -> None:
        self.now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def test_it_ends_when_nothing_is_gained_any_more(clock: Clock) -> None:
    times: Iterator[float] = iter([0.040] * ROUND + [0.010] * ROUND + [0.0098] * ROUND)
    asked: list[str] = []

    def look(one: str) -> None:
        asked.append(one)
        clock.now += next(times)

    assert settle(look, ["a", "b"]) == Warmth(3 * ROUND, pytest.approx(40), pytest.approx(9.8))  # type: ignore[arg-type]
    assert asked[:4] == ["a", "b", "a", "b"]


def test_it_ends_in_time_however_slow_searches_are(clock: Clock) -> None:
    def look(_: str) -> None:
        clock.now += warmup.LONGEST_SECONDS / (ROUND / 2)

    assert settle(look, ["a"]).searches == ROUND


def test_nothing_to_search_for_is_warm_at_once(clock: Clock) -> None:
    def never(_: str) -> None:
        raise AssertionError

    assert settle(never, []) == Warmth(0, 0.0, 0.0)
