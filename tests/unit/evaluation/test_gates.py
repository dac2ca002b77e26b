"""What is fast enough beside the live generation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from blocks.settings import Settings
from tasks.evaluation import gates
from tasks.evaluation.gates import FEWEST_ROUNDS, MOST_ROUNDS, Gate, GateReport, at_least, at_most, fast_enough
from tasks.evaluation.index_recall import Side
from tasks.resources import Resources


@pytest.mark.parametrize(
    ("seconds", "live", "bound", "enough"),
    [
        (0.150, 0.100, 1.5, True),
        (0.151, 0.100, 1.5, False),
        (0.0049, 0.001, 1.5, True),  # five times as slow, and nobody notices
        (0.0062, 0.001, 1.5, False),
        (0.001, 0.001, 0.5, False),  # a bound under 1 asks for a faster one
        (0.0004, 0.001, 0.5, True),
    ],
)
def test_a_multiple_of_almost_nothing_is_almost_nothing(
    seconds: float, live: float, bound: float, enough: bool
) -> None:
    assert fast_enough(seconds, live, bound) is enough


def test_what_is_just_at_its_bound_passes() -> None:
    assert [at_least("recall", value, 0.95).passed for value in (0.95, 0.9499999, 1.0, 0.0)] == [
        True,
        False,
        True,
        False,
    ]
    assert [at_most("lost", value, 0.02).passed for value in (0.02, 0.0200001, 0.0, 1.0)] == [True, False, True, False]
    assert [at_most("wrong", value, 0).passed for value in (0, 1)] == [True, False]


def test_one_gate_that_fails_is_enough() -> None:
    report = GateReport("docs_g0002", None, (at_most("wrong", 0, 0), at_least("recall", 0.5, 0.95)))
    assert [gate.name for gate in report.failed] == ["recall"]
    assert str(report) == "recall is 0.5, must be ≥ 0.95"


def measured(monkeypatch: pytest.MonkeyPatch, live: list[float], new: list[float]) -> tuple[Gate, int]:
    """The gate when each round of searches takes so many seconds, and how many rounds it measured."""
    rounds: list[int] = []

    def latencies(*_: Any) -> tuple[list[float], list[float]]:
        rounds.append(1)
        return live, new

    monkeypatch.setattr(gates, "latencies", latencies)
    resources = cast(Resources, SimpleNamespace(store=None, settings=Settings()))
    side = Side("any", [], Settings())
    return gates.latency(resources, side, side), len(rounds)


def test_a_few_slow_searches_are_measured_for_longer_before_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, rounds = measured(monkeypatch, [0.010] * 50, [0.010] * 40 + [0.050] * 10)
    assert (gate.passed, rounds) == (False, MOST_ROUNDS)


def test_an_index_that_is_slow_half_of_the_time_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, rounds = measured(monkeypatch, [0.010] * 50, [0.050] * 50)
    assert (gate.passed, rounds) == (False, FEWEST_ROUNDS)


def test_an_index_that_is_fast_enough_is_passed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, rounds = measured(monkeypatch, [0.010] * 50, [0.012] * 50)
    assert (gate.passed, rounds) == (True, FEWEST_ROUNDS)
