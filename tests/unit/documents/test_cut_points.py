"""Where texts are cut: everything fits, nothing is left out, and cuts hold still."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents.cut_points import RANK_CHARACTERS, SMALLEST_SHARE, Unit, ranges, rank

CAPACITY = 20
UNITS = st.lists(
    st.builds(Unit, st.text(max_size=60), st.integers(0, 3), st.integers(0, CAPACITY)), max_size=60
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(UNITS)
def test_ranges_cover_all_units_in_order_and_fit(units: list[Unit]) -> None:
    found = ranges(units, CAPACITY)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(len(units)))
    assert all(start < stop for start, stop in found)
    assert all(sum(unit.cost for unit in units[start:stop]) <= CAPACITY for start, stop in found)
    assert ranges(units, CAPACITY) == found


def test_what_fits_is_not_cut() -> None:
    assert ranges([Unit("a", 0, 10), Unit("b", 0, 10)], CAPACITY) == [(0, 2)]
    assert ranges([], CAPACITY) == []


def test_the_start_of_an_element_is_cut_before_a_sentence_and_a_sentence_before_a_word() -> None:
    levels = [0, 3, 2, 3, 1, 3, 2, 3]
    units = [Unit(f"unit {i}", level, 4) for i, level in enumerate(levels)]
    assert ranges(units, CAPACITY) == [(0, 4), (4, 8)]
    assert rank(Unit("same", 0, 1)) < rank(Unit("same", 1, 1)) < rank(Unit("same", 2, 1)) < rank(Unit("same", 3, 1))


def test_a_rank_follows_from_the_first_characters_alone() -> None:
    start = "x" * RANK_CHARACTERS
    assert rank(Unit(start + "one", 0, 1)) == rank(Unit(start + "two", 0, 7))
    assert rank(Unit("a" + start, 0, 1)) != rank(Unit("b" + start, 0, 1))


def test_no_piece_is_needlessly_small() -> None:
    units = [Unit(f"paragraph {i}", 0, 1) for i in range(500)]
    sizes = [stop - start for start, stop in ranges(units, CAPACITY)]
    assert min(sizes) >= SMALLEST_SHARE * CAPACITY - 1
    assert len(sizes) <= 500 / (SMALLEST_SHARE * CAPACITY - 1)
