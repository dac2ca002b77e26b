"""Parse one file into elements. Runs in a process of its own; uses no network and no Prefect."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.documents.decode import decode
from tasks.documents.formats import Format, detect
from tasks.documents.spool import write
from tasks.documents.tables import html_rows, row_lines
from tasks.errors import PermanentError, UnsuitableError
from tasks.limits import storable
from tasks.models import Element

ATTRIBUTE_LIST = re.compile(r"(?<!\s)\s*+\{\s*+[#.:][^{}]*+\}\s*+$")
"""Markdown's attribute list, as in 'Heading { #anchor }', which is not part of the heading."""
FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=(?:#[^\n]*\n)*[\w\"'-][^\n:]*:\s)(?:[^\n]*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)"
)
"""YAML between two rules at the very start. Other text between two rules is ordinary text."""
CLOSED_BLOCK = re.compile(r"<(/?)(?:details|summary|figure|figcaption|fieldset|form)\b[^\s/<>]*+", re.IGNORECASE)
ATTRIBUTES = r"\b(?:[^<>]|<(?![a-z/!]))*+>"
CAPTION = re.compile(
    rf"(<table{ATTRIBUTES}\s*+)<caption{ATTRIBUTES}((?:[^<]|<(?!/?caption\b))*+)</caption>", re.IGNORECASE
)
LEFT_OUT = {"Header", "Footer", "PageBreak", "PageNumber", "Image"}
LONGEST_HEADING = 200
DEEPEST_HEADING = 6


def parse(path: Path, key: str, content_type: str = "") -> list[Element]:
    """Return the elements of the file at ``path`` in reading order.

    Raises ``PermanentError``, with a reason for people, if the file has no text or cannot be read. ``MemoryError``
    passes through.
    """
    found: Format | str = "unknown"
    try:
        found = detect(path, key, content_type)
        elements = _read(path, found)
    except (PermanentError, MemoryError):
        raise
    except RecursionError as error:
        raise PermanentError(f"the {found} file is nested too deeply") from error
    except Exception as error:
        raise PermanentError(f"the {found} file cannot be read: {_first_line(error)}") from error
    if not any(element.text.strip() for element in elements):
        raise UnsuitableError(f"the {found} file holds no text" + (" (a scan?)" if found == "pdf" else ""))
    return [_storable(element) for element in elements]


def parse_into(into: Path, path: Path, key: str, content_type: str = "") -> int:
    """Write the elements of the file at ``path`` to ``into``, and return how many there are.

    :meth:`tasks.documents.spool.Spool.take` reads them. They go through a file because they may be more than the
    calling process can hold in memory.
    """
    elements = parse(path, key, content_type)
    with into.open("wb") as file:
        return write(elements, file)


def _storable(element: Element) -> Element:
    """Return an element whose text and headings can be stored. Each heading is cut to ``LONGEST_HEADING``."""
    headings = tuple(storable(heading)[:LONGEST_HEADING] for heading in element.headings)
    return replace(element, text=storable(element.text), headings=headings)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _read(path: Path, found: Format) -> list[Element]:
    if found == "pdf":
        from tasks.documents.pdf import read_pdf

        return read_pdf(path)
    if found in ("docx", "pptx", "xlsx"):
        return _with_headings(_partition_office(path, found), paged=found == "pptx")
    data = path.read_bytes()
    if found == "eml":
        # Each part names its own encoding. Only a file that no mail program writes is decoded as a whole.
        odd = b"\x00" in data or data.startswith(codecs.BOM_UTF8)
        return _read_mail(decode(data).encode() if odd else data)
    text = decode(data)
    if found == "json":
        return [Element(_pretty_json(text))]
    if found in ("csv", "tsv"):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter="," if found == "csv" else "\t")
        return [Element(line) for line in row_lines(rows)]
    return _with_headings(_partition_text(text, found))


def _partition_office(path: Path, found: Format) -> Iterable[Any]:
    use_plain_tokenizer()
    quiet: dict[str, Any] = {"filename": str(path), "languages": [""]}
    if found == "docx":
        from unstructured.partition.docx import partition_docx

        return partition_docx(**quiet)  # type: ignore[no-any-return]
    if found == "pptx":
        from unstructured.partition.pptx import partition_pptx

        return partition_pptx(**quiet)  # type: ignore[no-any-return]
    from unstructured.partition.xlsx import partition_xlsx

    return partition_xlsx(**quiet)  # type: ignore[no-any-return]


def _partition_text(text: str, found: Format) -> Iterable[Any]:
    use_plain_tokenizer()
    if found == "md":
        import markdown

        text = markdown.markdown(FRONT_MATTER.sub("", text), extensions=["tables", "fenced_code"])
    if found in ("md", "html"):
        from unstructured.partition.html import partition_html

        text = opened(text)
        if not text.strip():
            return []
        refuse_if_too_deep(text)
        return partition_html(text=text, languages=[""])  # type: ignore[no-any-return]
    from unstructured.partition.text import partition_text

    return partition_text(text=text, languages=[""])  # type: ignore[no-any-return]


def opened(html: str) -> str:
    """Rewrite blocks that unstructured leaves out, such as <details>, as blocks that it reads."""
    return CAPTION.sub(r"<p>\2</p>\1", CLOSED_BLOCK.sub(r"<\1div", without_comments(html)))


def without_comments(html: str) -> str:
    """Return HTML without its comments. An unclosed comment is left as it is."""
    kept, at = [], 0
    while (begin := html.find("<!--", at)) >= 0 and (end := html.find("-->", begin + 4)) >= 0:
        kept.append(html[at:begin])
        at = end + 3
    return "".join([*kept, html[at:]])


def refuse_if_too_deep(html: str) -> None:
    """Raise ``PermanentError`` for HTML nested so deeply that libxml2 would silently leave out the rest."""
    from lxml import etree

    parser = etree.HTMLParser()
    etree.fromstring(html.encode(), parser)
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise PermanentError("the HTML is nested more than 255 levels deep; deeper text would be left out")


def _read_mail(data: bytes) -> list[Element]:
    from unstructured.documents.elements import Title

    from tasks.documents.mail import letters

    elements: list[Element] = []
    for letter in letters(data):
        body = _partition_text(letter.text, letter.kind) if letter.text.strip() else []
        own = _with_headings([Title(letter.subject), *body] if letter.subject else body)
        elements += [replace(one, headings=_present([*letter.within, *one.headings])) for one in own]
    return elements


def _pretty_json(text: str) -> str:
    try:
        written = io.StringIO()
        for piece in json.JSONEncoder(ensure_ascii=False, indent=1).iterencode(json.loads(text)):
            written.write(piece)  # json.dumps would hold a list of all pieces
        return written.getvalue()
    except ValueError as error:
        raise PermanentError(f"the file is not valid JSON ({error})") from error


def _with_headings(parsed: Iterable[Any], paged: bool = False) -> list[Element]:
    """Give each element the headings above it, outermost first.

    A heading is not text by itself, because each chunk under it carries it. A heading with nothing under it is kept as
    text, so that it can be found.
    """
    path: list[str] = []
    elements: list[Element] = []
    bare: Element | None = None
    place: tuple[int | None, str] = (None, "")
    for item in parsed:
        text = _text_of(item)
        if not text or type(item).__name__ in LEFT_OUT:
            continue
        page = item.metadata.page_number if paged else None
        sheet = item.metadata.page_name or ""
        if place != (page, sheet):  # a slide or a sheet does not inherit the headings of the one before
            elements += [bare] if bare else []
            place, path, bare = (page, sheet), [], None
        if type(item).__name__ == "Title" and len(text) <= LONGEST_HEADING:
            depth = min(item.metadata.category_depth or 0, DEEPEST_HEADING)
            if bare and depth < len(path):
                elements.append(bare)
            path = [*path[:depth], *[""] * (depth - len(path)), ATTRIBUTE_LIST.sub("", text)]
            bare = Element(path[-1], _present([sheet, *path[:-1]]), page)
            continue
        bare = None
        elements.append(Element(text, _present([sheet, *path]), page))
    return [*elements, bare] if bare else elements


def _present(headings: list[str]) -> tuple[str, ...]:
    return tuple(heading for heading in headings if heading)


def _text_of(item: Any) -> str:
    if type(item).__name__ == "Table" and item.metadata.text_as_html:
        return "\n".join(row_lines(html_rows(item.metadata.text_as_html)))
    text = str(item.text or "")
    return text.rstrip() if type(item).__name__ == "CodeSnippet" else text.strip()


@functools.cache
def use_plain_tokenizer() -> None:
    """Replace unstructured's spaCy model by rules, so that it needs no network and works the same everywhere.

    unstructured asks spaCy for sentences and verbs, with a model that it downloads on first use. Here sentences end by
    rule and every token is a verb. That is enough for its heuristics: paragraphs of one sentence stay text and do not
    become headings. It also reports itself and each file to its makers, unless these variables are set before it is
    loaded. The parent process may not have set them.
    """
    os.environ.update(UNSTRUCTURED_DISABLE_NOTICE="1", DO_NOT_TRACK="1", SCARF_NO_ANALYTICS="1")
    import spacy
    from spacy.language import Language
    from spacy.tokens import Doc
    from unstructured.nlp import tokenize

    def tag(doc: Doc) -> Doc:
        for token in doc:
            token.tag_ = "VB"
        return doc

    Language.component("lockstep_every_token_a_verb", func=tag)
    plain = spacy.blank("en")
    plain.add_pipe("sentencizer")
    plain.add_pipe("lockstep_every_token_a_verb")
    plain.max_length = 10**9
    tokenize._get_nlp = lambda: plain
