"""Word, PowerPoint and Excel files, made by the libraries that write them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from pptx.util import Inches

from tasks.documents.parse import LONGEST_HEADING, parse
from tasks.errors import PermanentError


@pytest.fixture
def word(tmp_path: Path) -> Path:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Confidential header"
    document.sections[0].footer.paragraphs[0].text = "Confidential footer"
    document.add_heading("Report", 0)
    document.add_paragraph("Words of the introduction.")
    document.add_heading("First", 1)
    document.add_heading("Within the first", 2)
    document.add_paragraph("Words within.")
    document.add_paragraph("An item", style="List Bullet")
    table = document.add_table(2, 2)
    for i, text in enumerate(["name", "size", "lite", "small"]):
        table.cell(i // 2, i % 2).text = text
    document.add_heading("Bare", 1)
    document.add_heading("Last", 1)
    document.add_page_break()
    document.add_paragraph("Words after a page break.")
    path = tmp_path / "a.docx"
    document.save(str(path))
    return path


def slides(path: Path, *texts: tuple[str | None, str]) -> Path:
    presentation = pptx.Presentation()
    for title, body in texts:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1 if title else 6])
        if title:
            slide.shapes.title.text = title
            slide.placeholders[1].text_frame.text = body
        else:
            slide.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1)).text_frame.text = body
    presentation.save(str(path))
    return path


def sheets(path: Path, **cells: dict[str, object]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, values in cells.items():
        sheet = book.create_sheet(name)
        for place, value in values.items():
            sheet[place] = value
    book.save(path)
    return path


PRICES = {"A1": "item", "B1": "price", "A2": "apple", "B2": 1.5, "A3": "pear", "B3": None, "A4": "plum", "B4": 2}
STOCK = {"A1": "item", "B1": "count", "A2": "apple", "B2": 10}


def test_a_word_document(word: Path) -> None:
    assert [(element.headings, element.text) for element in parse(word, "a.docx")] == [
        (("Report",), "Words of the introduction."),
        (("First", "Within the first"), "Words within."),
        (("First", "Within the first"), "An item"),
        (("First", "Within the first"), "name: lite; size: small"),
        ((), "Bare"),
        (("Last",), "Words after a page break."),
    ]


def test_a_word_document_under_another_name_is_still_one(word: Path) -> None:
    assert parse(word, "a.txt") == parse(word, "a.docx") == parse(word, "a.pdf")


def test_a_slide_is_a_page_and_its_title_a_heading(tmp_path: Path) -> None:
    path = slides(tmp_path / "a.pptx", ("First slide", "Point one\nPoint two"), ("Second slide", "Only point"))
    assert [(element.page, element.headings, element.text) for element in parse(path, "a.pptx")] == [
        (1, ("First slide",), "Point one"),
        (1, ("First slide",), "Point two"),
        (2, ("Second slide",), "Only point"),
    ]


def test_a_slide_with_a_title_only_can_be_found(tmp_path: Path) -> None:
    path = slides(tmp_path / "a.pptx", ("Only a title", ""), ("Second slide", "A point"), ("The end", ""))
    assert [(element.page, element.headings, element.text) for element in parse(path, "a.pptx")] == [
        (1, (), "Only a title"),
        (2, ("Second slide",), "A point"),
        (3, (), "The end"),
    ]


def test_a_slide_without_a_title_has_not_that_of_the_slide_before(tmp_path: Path) -> None:
    path = slides(tmp_path / "a.pptx", ("First slide", "A point"), (None, "words without a title"))
    assert [(element.page, element.headings) for element in parse(path, "a.pptx")] == [(1, ("First slide",)), (2, ())]


def test_a_sheet_is_a_heading_and_a_row_a_line(tmp_path: Path) -> None:
    path = sheets(tmp_path / "a.xlsx", Prices=PRICES, Empty={}, Stock=STOCK)
    assert [(element.headings, element.text) for element in parse(path, "a.xlsx")] == [
        (("Prices",), "item: apple; price: 1.5\nitem: pear\nitem: plum; price: 2"),
        (("Stock",), "item: apple; count: 10"),
    ]


def test_two_tables_of_one_sheet_keep_their_own_columns(tmp_path: Path) -> None:
    lower = {"A7": "x", "B7": "y", "A8": 4, "B8": 5}
    path = sheets(tmp_path / "a.xlsx", Both={**PRICES, **lower})
    assert [element.text for element in parse(path, "a.xlsx")][1:] == ["x: 4; y: 5"]


def test_a_heading_of_one_sheet_does_not_stand_over_the_next(tmp_path: Path) -> None:
    titled = {"A1": "Remarks", "A3": "item", "B3": "price", "A4": "apple", "B4": 1}
    path = sheets(tmp_path / "a.xlsx", Prices=titled, Stock=STOCK)
    assert [element.headings for element in parse(path, "a.xlsx")] == [("Prices", "Remarks"), ("Stock",)]


def test_a_lone_heading_of_a_sheet_can_be_found_there(tmp_path: Path) -> None:
    path = sheets(tmp_path / "a.xlsx", Cover={"A1": "Overview"}, Stock=STOCK)
    assert [(element.headings, element.text) for element in parse(path, "a.xlsx")] == [
        (("Cover",), "Overview"),
        (("Stock",), "item: apple; count: 10"),
    ]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(word: Path, share: float) -> None:
    whole = word.read_bytes()
    word.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PermanentError, match="damaged or truncated zip"):
        parse(word, "a.docx")


def test_a_file_with_damaged_bytes_inside_is_refused(word: Path) -> None:
    whole = bytearray(word.read_bytes())
    at = whole.index(b"word/document.xml") + 40
    whole[at : at + 400] = bytes(400)
    word.write_bytes(whole)
    with pytest.raises(PermanentError, match="the docx file cannot be read"):
        parse(word, "a.docx")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.docx", lambda path: docx.Document().save(str(path))),
        ("a.pptx", lambda path: pptx.Presentation().save(str(path))),
        ("a.xlsx", lambda path: openpyxl.Workbook().save(path)),
    ],
)
def test_a_file_with_nothing_in_it_is_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(PermanentError, match=f"the {name[2:]} file holds no text"):
        parse(tmp_path / name, name)


def test_a_zip_of_a_version_that_nobody_knows_is_refused(word: Path) -> None:
    whole = bytearray(word.read_bytes())
    at = whole.index(b"PK\x01\x02")
    whole[at + 6 : at + 8] = b"\xe1\x00"  # the version needed to extract
    word.write_bytes(bytes(whole))
    with pytest.raises(PermanentError, match="zip"):
        parse(word, "a.docx")


def test_the_name_of_a_sheet_is_cut_as_any_heading_is(tmp_path: Path) -> None:
    """Programs allow 31 characters, files 9,000: more than a row of the index holds."""
    path = sheets(tmp_path / "a.xlsx", Prices=PRICES)
    with zipfile.ZipFile(path) as book:
        members = {name: book.read(name) for name in book.namelist()}
    members["xl/workbook.xml"] = members["xl/workbook.xml"].replace(b'"Prices"', b'"' + b"Prices" * 1500 + b'"')
    with zipfile.ZipFile(path, "w") as book:
        for name, data in members.items():
            book.writestr(name, data)
    (element,) = parse(path, "a.xlsx")
    assert [len(heading) for heading in element.headings] == [LONGEST_HEADING]
