"""Write Markdown that shows other people's text literally: no markup of theirs takes effect."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.sanitize import one_line, unlinked, visible

_SPEAKS = re.compile(r"[\\`*{}\[\]!|~$^#]|(?<![^\W_])_|_(?![^\W_])")
_BEGINS = re.compile(r"[-+=:](?=[-+=:\s]|\Z)|\d{1,9}(?=[.)](?:\s|\Z))")


class Markdown(str):
    """Markdown of our own, shown as it is."""


def plain(text: str) -> str:
    """Escape a text for Markdown, so that it is shown literally, line by line.

    No link, picture, tag, heading, list, table, formula or diagram of its own: whoever reads a report would otherwise
    fetch what a document names. An address gets an invisible break: renderers look for addresses in what is left
    when all escapes are read, so that no escape helps against them.
    """
    lines = visible(text).strip().split("\n")
    return "  \n".join(_plain(line.strip()) for line in lines).replace("\n  \n", "\n\n")


def _plain(line: str) -> str:
    escaped = _SPEAKS.sub(r"\\\g<0>", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    begins = _BEGINS.match(escaped)
    if begins and begins[0].isdecimal():
        escaped = f"{begins[0]}\\{escaped[begins.end() :]}"
    elif begins:
        escaped = f"\\{escaped}"
    return unlinked(escaped)


def inline(text: str) -> str:
    """Escape a text like :func:`plain`, on one line: for a heading, a quotation, a description."""
    return plain(one_line(text))


def cell(value: object) -> str:
    """Escape a value for a table cell: nothing in it can end the cell or the row."""
    return value if isinstance(value, Markdown) else inline(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cell(value) for value in line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])
