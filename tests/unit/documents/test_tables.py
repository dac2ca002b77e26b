"""Rows that are understood without the rest of their table."""

from __future__ import annotations

import pytest

from tasks.documents.tables import html_rows, row_lines


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([], []),
        ([["", " "]], []),
        ([["a", "", "b"]], ["a | b"]),
        ([["a", "b"], ["1", "2"], ["3", "4"]], ["a: 1; b: 2", "a: 3; b: 4"]),
        ([["name", "size"], ["", ""], ["lite", ""]], ["name: lite"]),
        ([["", ""], ["name", "size"], ["lite", "small"]], ["name: lite; size: small"]),
        ([["name", ""], ["lite", "small"]], ["name: lite; small"]),
        ([["name"], ["lite", "small", "free"]], ["name: lite; small; free"]),
        ([["name", "size"], ["lite"]], ["name: lite"]),
        ([["the\nname"], ["two\n  lines"]], ["the name: two lines"]),
    ],
)  # fmt: skip
def test_a_line_a_row_named_by_the_first(rows: list[list[str]], lines: list[str]) -> None:
    assert row_lines(rows) == lines


def test_a_long_name_of_a_column_does_not_stand_in_every_row_whole() -> None:
    """A file of 100 kB would be half a gigabyte of text."""
    lines = row_lines([["n" * 18_000, "b"], *[["a", ""]] * 1_000])
    assert set(lines) == {f"{'n' * 200}: a"}


def test_the_cells_of_an_html_table() -> None:
    html = "<table><tr><th>a</th><th>b &amp; c</th></tr><tr><td><b>1</b> x</td><td></td></tr></table>"
    assert html_rows(html) == [["a", "b & c"], ["1 x", ""]]


def test_a_cell_does_not_end_the_line_of_its_row() -> None:
    assert row_lines([["state", "meaning"], ["up", "It answers."]]) == ["state: up; meaning: It answers"]
