"""Write the rows of a table so that each row makes sense without the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST_NAME = 200
"""Maximum characters of a column's name in each row."""


def row_lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return one line a row, as 'column: value; column: value'. The first row has the columns' names.

    Empty cells and rows are left out. A table of one row gives that row, with cells joined by ' | '.
    """
    # A cell's full stop is removed, because it would end the sentence in the middle of the row's line.
    filled = [[" ".join(cell.split()).removesuffix(".") for cell in row] for row in rows]
    filled = [row for row in filled if any(row)]
    if len(filled) < 2:
        return [" | ".join(cell for cell in row if cell) for row in filled]
    header = filled[0]
    return [_named(header, row) for row in filled[1:]]


def _named(header: Sequence[str], row: Sequence[str]) -> str:
    # Each row repeats the names. A long name would multiply the text of the file a hundred times.
    names = [*(name[:LONGEST_NAME] for name in header), *[""] * (len(row) - len(header))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell)


def html_rows(html: str) -> list[list[str]]:
    """Return the cells of an HTML table as text, row by row."""
    from lxml import html as lxml_html

    table = lxml_html.fragment_fromstring(html, create_parent="div")
    return [[cell.text_content() for cell in row.iter("td", "th")] for row in table.iter("tr")]
