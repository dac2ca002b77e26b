"""Which passages fit into a prompt."""

from __future__ import annotations

import pytest

from tasks.answers.context_window import fitting, shown
from tasks.answers.passages import BYTES_PER_TOKEN, estimated
from tasks.models import Hit


def hit(text: str, key: str = "a.md", heading: str = "") -> Hit:
    return Hit("c", key, 0.5, text, heading, None)


def hits(*sizes: int) -> list[Hit]:
    """Passages that are estimated at so many tokens."""
    rest = len(shown(hit("", key="")).encode())
    return [hit("x" * (BYTES_PER_TOKEN * size - rest), key="") for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "tokens", "kept"),
    [((), 100, 0), ((10,), 100, 1), ((999,), 100, 1), ((999, 10), 100, 1), ((33, 33, 34), 100, 3),
     ((33, 33, 35), 100, 2), ((33, 99, 10), 100, 1)],
)  # fmt: skip
def test_the_best_passages_that_fit_at_least_one(sizes: tuple[int, ...], tokens: int, kept: int) -> None:
    offered = hits(*sizes)
    assert fitting(offered, tokens) == tuple(offered[:kept])


def test_key_and_heading_take_room_too() -> None:
    offered = [hit("x" * 100, key="k"), hit("y" * 100, key="k" * 50, heading="h" * 49)]
    most = sum(estimated(shown(one)) for one in offered)
    assert len(fitting(offered, most)) == 2
    assert len(fitting(offered, most - 1)) == 1


def test_what_is_counted_holds_and_what_cannot_be_is_estimated() -> None:
    """A word a token: far fewer than is estimated."""
    offered = [hit("considerable verbosity " * 10, key=f"{n}") for n in range(4)]
    assert len(fitting(offered, 60)) == 1
    assert len(fitting(offered, 60, lambda text: len(text.split()))) == 2
    assert len(fitting(offered, 60, lambda _: None)) == 1


def test_a_script_without_spaces_is_not_taken_for_less_than_it_is() -> None:
    assert estimated("知识库" * 100) >= 300
    assert estimated("word " * 100) >= 100
