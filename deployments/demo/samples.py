"""The sample corpus: the project's own documentation, in every format that Lockstep reads.

    docs/*.md .html .txt .csv .eml   ──copy──▶  the same relative path
    docs/sources/handbook.md         ──PDF───▶  handbook.pdf
    docs/sources/security.md         ──Word──▶  security.docx
    docs/sources/tour.md             ──slides▶  tour.pptx
    docs/sources/sizing.md           ──sheets▶  sizing.xlsx

The same sources give the same bytes each time, so that a second demo uploads and embeds nothing.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode
    from mypy_boto3_s3 import S3Client

CONTENT_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".eml": "message/rfc822",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
DOCS = Path(__file__).parents[2] / "docs"
"""The source of the corpus."""
COPIED = (".md", ".html", ".txt", ".csv", ".eml")
# The binary files are made from the sources. The other two are notes for contributors: answers would quote rejected
# alternatives from them as facts.
LEFT_OUT = {"sources", "decisions.md", "architecture.md"}
METADATA = {"source": "lockstep-docs"}

# Any fixed time will do, but a zip file cannot hold one before 1980.
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CORE_PROPERTIES = "docProps/core.xml"
NUMBER = re.compile(r"\d{1,3}(,\d{3})*(\.\d+)?")
# The fonts built into every PDF reader cover only Latin-1, but need no font file in the repository.
LATIN = str.maketrans({"–": "-", "—": "-", "›": ">", "→": "->", "≈": "~", "“": '"', "”": '"', "’": "'"})


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a Markdown page: text with its heading level or list mark, or the rows of a table."""

    kind: Literal["heading", "paragraph", "item", "code", "table"]
    text: str = ""
    level: int = 0
    mark: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def build(docs: Path, out: Path) -> list[Path]:
    """Write the corpus of ``docs`` into ``out`` and return the files, sorted.

    Raises ``OSError`` when a source is missing or ``out`` cannot be written.
    """
    found = {path.relative_to(docs): path for path in docs.rglob("*") if path.suffix in COPIED}
    corpus = {name: path.read_bytes() for name, path in found.items() if name.parts[0] not in LEFT_OUT}
    for made, (source, write) in MADE.items():
        corpus[Path(made)] = write(read_blocks((docs / "sources" / source).read_text("utf-8")))
    for name, content in corpus.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return sorted(out / name for name in corpus)


def upload(client: S3Client, bucket: str, prefix: str, files_root: Path) -> tuple[int, int]:
    """Upload the files below ``files_root`` to the bucket under ``prefix``. Return (uploaded, unchanged).

    A file whose MD5 is already the ETag of its key is left alone, and nothing is ever removed. Raises
    botocore's own errors.
    """
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
    etags = {entry["Key"]: entry["ETag"].strip('"') for page in pages for entry in page.get("Contents", [])}
    uploaded = unchanged = 0
    files = sorted(path for path in files_root.rglob("*") if path.suffix in CONTENT_TYPES)
    for path in files:
        key, body = folder + path.relative_to(files_root).as_posix(), path.read_bytes()
        if etags.get(key) == hashlib.md5(body, usedforsecurity=False).hexdigest():
            unchanged += 1
            continue
        kind = CONTENT_TYPES[path.suffix]
        client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind, Metadata=METADATA)
        uploaded += 1
    return uploaded, unchanged


def read_blocks(markdown: str) -> list[Block]:
    """Return the headings, paragraphs, list items, code and tables of a Markdown page, in order."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [block for node in SyntaxTreeNode(tokens).children for block in _blocks_of(node)]


def _blocks_of(node: SyntaxTreeNode) -> list[Block]:
    if node.type == "heading":
        return [Block("heading", _plain(node), level=int(node.tag[1]))]
    if node.type == "fence":
        return [Block("code", node.content.rstrip("\n"))]
    if node.type == "bullet_list":
        return [Block("item", _plain(item)) for item in node.children]
    if node.type == "ordered_list":
        return [Block("item", _plain(item), mark=f"{n}.") for n, item in enumerate(node.children, 1)]
    if node.type == "table":
        lines = (row.children for part in node.children for row in part.children)
        return [Block("table", rows=tuple(tuple(map(_plain, line)) for line in lines))]
    return [Block("paragraph", _plain(node))]


def _plain(node: SyntaxTreeNode) -> str:
    leaves = (leaf for leaf in node.walk() if leaf.type in ("text", "code_inline", "softbreak"))
    return "".join(" " if leaf.type == "softbreak" else leaf.content for leaf in leaves)


def write_pdf(blocks: list[Block]) -> bytes:
    """Return a PDF with numbered pages. Every second-level heading begins a page."""
    from fpdf import FPDF

    def number_page() -> None:
        pdf.set_y(-15)
        pdf.set_font("Helvetica", size=9)
        pdf.cell(0, 8, f"Page {pdf.page_no()} of {{nb}}", align="C")

    pdf = FPDF(format="A4")
    pdf.footer = number_page
    pdf.set_creation_date(MOMENT)
    pdf.set_title(blocks[0].text)
    pdf.set_margin(22)
    pdf.set_auto_page_break(True, margin=22)
    pdf.add_page()
    for block in blocks:
        if block.kind == "heading" and block.level > 1:
            pdf.add_page()
        _add_to_pdf(pdf, block)
    return bytes(pdf.output())


def _add_to_pdf(pdf: Any, block: Block) -> None:
    text = block.text.translate(LATIN)
    flow = {"new_x": "LMARGIN", "new_y": "NEXT", "align": "L"}
    pdf.set_font("Helvetica", size=11)
    if block.kind == "heading":
        pdf.start_section(text, level=block.level - 1)
        pdf.set_font("Helvetica", "B", size=22 - 3 * block.level)
        pdf.multi_cell(0, 10, text, **flow)
    elif block.kind == "table":
        pdf.set_font_size(9)  # most cells then fit on one line, so that PDF parsers read them as a whole
        widths = [max(map(len, column)) + 5 for column in zip(*block.rows, strict=True)]
        with pdf.table(col_widths=widths, text_align="LEFT", line_height=5, padding=1) as table:
            for row in block.rows:
                table.row([cell.translate(LATIN) for cell in row])
    elif block.kind == "item":
        pdf.multi_cell(0, 6, f"{block.mark or '-'} {text}", **flow)
    else:
        pdf.set_font("Courier" if block.kind == "code" else "Helvetica", size=11)
        pdf.multi_cell(0, 6, text, **flow)
    pdf.ln(1 if block.kind == "item" else 3)


def write_docx(blocks: list[Block]) -> bytes:
    """Return a Word document with headings, lists and tables in its own styles."""
    from docx import Document

    document = Document()
    _sign(document.core_properties, blocks)
    for block in blocks:
        if block.kind == "heading":
            document.add_heading(block.text, level=block.level - 1)
        elif block.kind == "table":
            table = document.add_table(0, len(block.rows[0]), style="Light Grid Accent 1")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        elif block.kind == "item":
            document.add_paragraph(block.text, style="List Number" if block.mark else "List Bullet")
        else:
            document.add_paragraph(block.text, style="No Spacing" if block.kind == "code" else None)
    return _same_bytes(document.save)


def write_pptx(blocks: list[Block]) -> bytes:
    """Return slides: one per heading, with the text below the heading as its lines."""
    from pptx import Presentation

    show = Presentation()
    _sign(show.core_properties, blocks)
    frame: Any = None
    for block in blocks:
        if block.kind == "heading":
            slide = show.slides.add_slide(show.slide_layouts[0 if block.level == 1 else 1])
            slide.shapes.title.text = block.text
            frame = slide.placeholders[1].text_frame
        else:
            (frame.add_paragraph() if frame.text else frame.paragraphs[0]).text = block.text
    return _same_bytes(show.save)


def write_xlsx(blocks: list[Block]) -> bytes:
    """Return a workbook with one sheet per second-level heading. Text before the first heading goes on top of it."""
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    _sign(book.properties, blocks)
    sheet: Any = book.active
    named = False
    for block in blocks:
        if block.kind == "heading" and block.level > 1:
            sheet = book.create_sheet() if named else sheet
            sheet.title, named = block.text, True
            continue
        # An empty row around each table shows people and parsers where it ends.
        for row in [*(block.rows or [(block.text,)]), ()]:
            sheet.append([_cell(text) for text in row])
        if block.kind == "heading":
            sheet["A1"].font = Font(bold=True)
    return _same_bytes(book.save)


def _cell(text: str) -> str | int | float:
    """Return numeric text as a number, so that people can calculate with it."""
    if not NUMBER.fullmatch(text):
        return text
    number = float(text.replace(",", ""))
    return int(number) if number.is_integer() else number


def _sign(properties: Any, blocks: list[Block]) -> None:
    properties.title = blocks[0].text
    for name in ("author", "creator", "last_modified_by"):
        if hasattr(properties, name):
            setattr(properties, name, "Lockstep")


def _same_bytes(save: Callable[[io.BytesIO], None]) -> bytes:
    """Return the Office file that ``save`` writes, with every time in it set to ``MOMENT``."""
    written, steady = io.BytesIO(), io.BytesIO()
    save(written)
    stamp = MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(written) as before, zipfile.ZipFile(steady, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            content = before.read(name)
            if name == CORE_PROPERTIES:
                content = re.sub(rb"(W3CDTF\">)[^<]*", rb"\g<1>" + stamp, content)
            entry = zipfile.ZipInfo(name, date_time=MOMENT.timetuple()[:6])
            entry.create_system = 0  # the default depends on the operating system
            after.writestr(entry, content, compress_type=zipfile.ZIP_DEFLATED)
    return steady.getvalue()


MADE: dict[str, tuple[str, Callable[[list[Block]], bytes]]] = {
    "handbook.pdf": ("handbook.md", write_pdf),
    "security.docx": ("security.md", write_docx),
    "sizing.xlsx": ("sizing.md", write_xlsx),
    "tour.pptx": ("tour.md", write_pptx),
}
