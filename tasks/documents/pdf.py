"""Read the text of a PDF, page by page, with PDFium."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tasks.errors import PermanentError
from tasks.models import Element

SENTENCE_END = re.compile(r"[.!?:;。！？][\"')\]»”]*$")
LIST_ITEM = re.compile(r"(?:[-–•*▪◦]|\d{1,3}[.)])\s")
DIGITS = re.compile(r"\d+")
BREAK = re.compile("[\u0002\ufffe](.)")
HYPHENS = "\u0002\ufffe\u00ad"
"""The characters that PDFium returns for a hyphen that only breaks a line."""
SHORT_LINE = 0.7
"""A line shorter than this share of the page's longest ends its paragraph."""


def read_pdf(path: Path) -> list[Element]:
    """Return the paragraphs of each page, with the page's number from 1.

    Raises ``PermanentError`` for an encrypted or damaged file.
    """
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        locked = "password" in str(error).lower()
        reason = "the PDF is encrypted; store it without a password" if locked else "the PDF is damaged or truncated"
        raise PermanentError(reason) from error
    try:
        pages = [page.get_textpage().get_text_bounded().splitlines() for page in document]
    finally:
        document.close()
    return [
        Element(paragraph, page=number)
        for number, lines in enumerate(without_running_lines(pages), start=1)
        for paragraph in paragraphs(lines)
    ]


def without_running_lines(pages: list[list[str]]) -> list[list[str]]:
    """Remove headers and footers: first and last lines that most pages share, apart from their numbers."""
    edges = Counter(shape for lines in pages for shape in {_shape(line) for line in (*lines[:1], *lines[-1:])})
    running = {shape for shape, times in edges.items() if times > max(2, len(pages) / 2)}
    kept = []
    for lines in pages:
        start = 1 if lines and _shape(lines[0]) in running else 0
        stop = len(lines) - (1 if len(lines) > start and _shape(lines[-1]) in running else 0)
        kept.append(lines[start:stop])
    return kept if any(kept) else pages


def _shape(line: str) -> str:
    return DIGITS.sub("#", line.strip())


def paragraphs(page: list[str]) -> list[str]:
    """Join the lines of a page into paragraphs.

    A PDF has lines, not paragraphs. A paragraph ends at a blank line, and at a line clearly shorter than the longest.
    It also ends where a sentence closes a little short of the full width, and before a list item.
    """
    lines = [line.strip() for line in page]
    width = max(map(len, lines), default=0)
    found: list[str] = []
    open_line = False
    for line in lines:
        if not line:
            open_line = False
            continue
        if open_line and not LIST_ITEM.match(line):
            found[-1] = _joined(found[-1], line)
        else:
            found.append(line)
        short = len(line) < SHORT_LINE * width or (SENTENCE_END.search(line) and len(line) < 0.9 * width)
        open_line = not short
    return [_unbroken(text) for text in found]


def _joined(text: str, line: str) -> str:
    if text[-1] in HYPHENS:
        return text + line
    if text.endswith("-") and line[:1].islower():
        return text[:-1] + line
    return f"{text} {line}"


def _unbroken(text: str) -> str:
    """Remove the hyphens that only broke a line. A hyphen before a capital or a digit is part of the word."""
    marked = BREAK.sub(lambda match: match[1] if match[1].islower() else f"-{match[1]}", text)
    return marked.translate({ord(mark): None for mark in HYPHENS})
