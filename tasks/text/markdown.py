"""Write Markdown that shows foreign text exactly, without its links, pictures or formatting taking effect."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.sanitize import one_line, unlinked, visible

_SPEAKS = re.compile(r"[\\`*{}\[\]!|~$^#]|(?<![^\W_])_|_(?![^\W_])")
_BEGINS = re.compile(r"[-+=:](?=[-+=:\s]|\Z)|\d{1,9}(?=[.)](?:\s|\Z))")

_HIDES = re.compile(r"(?:(?<=\])|\A)[(:]")
"""What makes a link or a picture of brackets: an address behind them, here or, for `[1]:`, elsewhere in the text."""
_OPENS = re.compile(r"(\\*+)(<(?=[A-Za-z/!?]|\Z)|\Z)")
"""The start of a tag, or the end, with the backslashes before it. An odd number of them escapes the tag already."""
_ADDRESS = re.compile(r"(?:\A|[:@]|www\.)\S*\Z")
"""What may be a plain address up to here, or the end of one that an earlier piece began. It takes a backslash in: the
tag behind it would be one."""


class Markdown(str):
    """Markdown that we wrote ourselves, so that it is not escaped."""


def plain(text: str) -> str:
    """Escape a text of a document, a model or a person as Markdown that shows it line by line.

    Its links, pictures, tags, headings, lists, tables, formulas and diagrams have no effect. Otherwise the reader of a
    report would fetch addresses that a document names. An address gets an invisible break. Renderers look for addresses
    after they have read all escapes, so no escape helps.
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


def harmless(text: str) -> str:
    """Return a model's Markdown without what a chat page would fetch by itself, or hide behind other words.

    Pictures, links with words of their own, and tags show as they are written. Formatting, marks like [1] and plain
    addresses stay: a person sees where these lead. A text that is sent in pieces is as harmless as each of them.
    """
    found = _HIDES.sub(r"\\\g<0>", visible(text))
    return _OPENS.sub(_escaped, found)


def _escaped(found: re.Match[str]) -> str:
    slashes, tag = found[1], found[2]
    if tag and _ADDRESS.search(found.string, 0, found.start()):
        return f"{slashes}&lt;"
    alone = len(slashes) % 2 == 0
    return f"{slashes}\\{tag}" if alone == bool(tag) else found[0]


def inline(text: str) -> str:
    """Escape a text like :func:`plain`, in one line: for a heading, a quotation or a description."""
    return plain(one_line(text))


def cell(value: object) -> str:
    """Return a value as the text of a table's cell, escaped so that it cannot end the cell or the row."""
    return value if isinstance(value, Markdown) else inline(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cell(value) for value in line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])
