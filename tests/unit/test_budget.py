"""Which passages fit into a prompt."""

from __future__ import annotations

import pytest

from tasks.budget import BYTES_PER_TOKEN, estimated, fitting, shown
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


def test_what_the_server_counts_holds() -> None:
    """A word a token: far fewer than is estimated. All are counted in one call when all fit, else one by one."""
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text.split())

    offered = [hit("considerable verbosity " * 10, key=f"{n}") for n in range(4)]
    assert len(fitting(offered, 60)) == 1
    assert len(fitting(offered, 100, count)) == 4
    assert len(asked) == 1
    assert len(fitting(offered, 60, count)) == 2
    assert len(asked) == 5  # the whole, and one after the other up to the one that is too much


def test_a_script_without_spaces_is_not_taken_for_less_than_it_is() -> None:
    assert estimated("知识库" * 100) >= 300
    assert estimated("word " * 100) >= 100
