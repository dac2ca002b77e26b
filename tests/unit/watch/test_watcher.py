"""When the watcher syncs, and how long it waits after failures."""

from __future__ import annotations

import pytest

from deployments.watch import poll, watcher


@pytest.mark.parametrize(
    ("quiet", "since_last", "syncs"),
    [
        (None, 99.0, False),
        ((0.1, 0.1), 99.0, False),
        ((0.4, 0.4), 99.0, True),
        ((0.0, 2.5), 99.0, True),
        ((0.4, 0.4), 1.0, False),
        ((9.0, 9.0), 1.9, False),
        ((9.0, 9.0), 2.1, True),
    ],
)
def test_it_waits_for_a_moment_of_quiet_but_not_for_long(
    quiet: tuple[float, float] | None, since_last: float, syncs: bool
) -> None:
    assert watcher.due(quiet, since_last) is syncs


def test_it_waits_longer_after_each_failure_up_to_five_minutes() -> None:
    assert [watcher.pause_after(number) for number in (0, 1, 2, 3, 9, 10, 5000)] == [0, 1, 2, 4, 256, 300, 300]


def test_listings_take_a_share_of_the_time() -> None:
    assert poll.pause_after(0.01, 1.0, 0.05) == 1.0
    assert poll.pause_after(10.0, 1.0, 0.05) == pytest.approx(190.0)
