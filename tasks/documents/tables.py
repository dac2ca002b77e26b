"""Turn each row of a table into a sentence that can be understood without the other rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST_NAME = 200
"""Characters of a column's name that its rows are named by."""


def row_lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a line a row, as 'column: value; column: value', named by the first row.

    Empty cells and rows are left out. A table of one row gives that row, cells joined by ' | '.
    """
    # Without its full stop a cell does not end the line that stands for its row.
    filled = [[" ".join(cell.split()).removesuffix(".") for cell in row] for row in rows]
    filled = [row for row in filled if any(row)]
    if len(filled) < 2:
        return [" | ".join(cell for cell in row if cell) for row in filled]
    header = filled[0]
    return [_named(header, row) for row in filled[1:]]


def _named(header: Sequence[str], row: Sequence[str]) -> str:
    # A name stands in every row: a long one would make a hundred times the text of the file.
    names = [*(name[:LONGEST_NAME] for name in header), *[""] * (len(row) - len(header))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell)


def html_rows(html: str) -> list[list[str]]:
    """Return the cells of an HTML table, as text, row by row."""
    from lxml import html as lxml_html

    table = lxml_html.fragment_fromstring(html, create_parent="div")
    return [[cell.text_content() for cell in row.iter("td", "th")] for row in table.iter("tr")]
