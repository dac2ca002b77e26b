"""What is fast enough beside the live generation."""

from __future__ import annotations

import pytest

from tasks.gates import fast_enough


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
