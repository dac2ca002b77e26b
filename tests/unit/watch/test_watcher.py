"""When the watcher syncs, and how long it waits after failures."""

from __future__ import annotations

import json

import pytest

from deployments.watch import poll, watcher
from tasks.ledger.changes import Change

MANY = tuple(float(age) for age in range(30, 60))


@pytest.mark.parametrize(
    ("quiet", "runs", "syncs"),
    [
        (None, (), False),
        ((0.1, 0.1), (), False),
        ((0.4, 0.4), (), True),
        ((0.0, 2.5), (), True),
        ((0.4, 0.4), (0.4,), False),
        ((9.0, 9.0), (0.4, 5.0), False),
        ((0.4, 0.4), (0.6, 5.0), True),
        ((9.0, 9.0), (*MANY, 2.0), False),
        ((9.0, 9.0), MANY, True),
    ],
)
def test_it_waits_for_a_moment_of_quiet_but_not_for_long(
    quiet: tuple[float, float] | None, runs: tuple[float, ...], syncs: bool
) -> None:
    assert watcher.due(quiet, runs) is syncs


def test_it_waits_longer_after_each_failure_up_to_half_a_minute() -> None:
    assert [watcher.pause_after(number) for number in (0, 1, 2, 3, 5, 6, 5000)] == [0, 1, 2, 4, 16, 30, 30]


def test_listings_take_a_share_of_the_time() -> None:
    assert poll.pause_after(0.01, 1.0, 0.05) == 1.0
    assert poll.pause_after(10.0, 1.0, 0.05) == pytest.approx(190.0)


def test_the_keys_of_a_run_fit_into_its_parameters() -> None:
    long = [Change("日" * 341, 1, 0) for _ in range(512)]
    some = watcher.portion(long)
    assert 0 < len(some) < 512
    assert len(json.dumps([change.key for change in some])) < 512_000
    assert watcher.portion([Change("a", 1, 0)] * 512) == [Change("a", 1, 0)] * 512
    huge = Change("x" * 400_000, 1, 0)
    assert watcher.portion([huge, huge]) == [huge]
