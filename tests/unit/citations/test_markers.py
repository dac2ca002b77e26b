"""Sentences of an answer, and the marks in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.citations.markers import pieces, states, unnumbered, without_marks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("One.", ["One."]),
        ("One [1]. Two [2].", ["One [1].", "Two [2]."]),
        ("One. [1] Two. [2] [3] Three.", ["One. [1]", "Two. [2] [3]", "Three."]),
        ("Use e.g. this [1] and that [2]. Good.", ["Use e.g. this [1] and that [2].", "Good."]),
        ("Is it? Yes! 3 times.", ["Is it?", "Yes!", "3 times."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("- one [1]\n- two\n\nEnd", ["- one [1]", "- two", "End"]),
        ("Version 2.3.5 has none [1]", ["Version 2.3.5 has none [1]"]),
        ("1. One [1].\n2. Two [2].", ["1. One [1].", "2. Two [2]."]),
        ("a) One.\n**b.** Two.", ["a) One.", "**b.** Two."]),
        ("It lasts. 250. 99. B.", ["It lasts.", "250.", "99.", "B."]),
        ("250.", ["250."]),
        ("250.\nNext line.", ["250.", "Next line."]),
        ("250. [1] Next.", ["250. [1]", "Next."]),
    ],
)
def test_sentences_keep_the_marks_behind_them(text: str, expected: list[str]) -> None:
    assert [piece for piece, _ in pieces(text)] == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("aB. !?[1]\n\"'", max_size=60))
def test_joined_the_pieces_are_the_text_but_for_space_before_it(text: str) -> None:
    assert "".join(piece + after for piece, after in pieces(text)) in (text, text.lstrip())


@pytest.mark.parametrize(
    ("piece", "does"),
    [("Deletes come first [1].", True), ("1.", True), ("As follows:", False), ("# Title", False), ("[1]", False),
     ("[2] yes it is", True), ("", False), ("größe", True), ("No.", True), ("42%.", True), ("12)", True),
     ("b)", True), ("---", False), ("**", False), ("7", True), ("1984", True), ("日", True)],
)  # fmt: skip
def test_what_states_something(piece: str, does: bool) -> None:
    assert states(piece) is does


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One [1].", "One."),
        ("[1, 2] One[3] two", "One［3］ two"),
        ("x[0] = y [7]", "x［0］ = y"),
        ("a [b] [1a]", "a [b] [1a]"),
    ],
)
def test_a_claim_in_json_cites_nothing_in_its_text(text: str, expected: str) -> None:
    assert without_marks(text) == expected


@pytest.mark.parametrize(
    ("piece", "expected"),
    [("1. One [1].", "One [1]."), ("- 2) Two", "Two"), ("**b.** B", "B"), ("250.", "250."), ("250", "250"),
     ("3 of them", "3 of them"), ("1.5 litres", "1.5 litres")],
)  # fmt: skip
def test_the_number_of_a_list_is_no_part_of_what_is_claimed(piece: str, expected: str) -> None:
    assert unnumbered(piece) == expected
