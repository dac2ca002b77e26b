"""When the watcher syncs, and how long it waits after failures."""

from __future__ import annotations

import pytest

from deployments.watch import poll, watcher

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


def test_it_waits_longer_after_each_failure_up_to_five_minutes() -> None:
    assert [watcher.pause_after(number) for number in (0, 1, 2, 3, 9, 10, 5000)] == [0, 1, 2, 4, 256, 300, 300]


def test_listings_take_a_share_of_the_time() -> None:
    assert poll.pause_after(0.01, 1.0, 0.05) == 1.0
    assert poll.pause_after(10.0, 1.0, 0.05) == pytest.approx(190.0)
