"""PDF files: paragraphs by page, without what is printed on every page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fpdf import FPDF

from tasks.documents.parse import parse
from tasks.documents.pdf import HYPHENS, paragraphs, without_running_lines
from tasks.errors import PermanentError

LONG = (
    "This sentence is long enough to be broken over more than one line of the page, because a page is only so wide "
    "and a sentence may be wider. It ends here."
)


def write(path: Path, pages: Sequence[Sequence[str]], header: str = "", footer: str = "", password: str = "") -> Path:
    class Pages(FPDF):
        def header(self) -> None:
            if header:
                self.cell(0, 10, header.format(self.page_no()), new_x="LMARGIN", new_y="NEXT")

        def footer(self) -> None:
            if footer:
                self.set_y(-15)
                self.cell(0, 10, footer.format(self.page_no()))

    document = Pages()
    document.set_font("helvetica", size=11)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    for lines in pages:
        document.add_page()
        for line in lines:
            document.multi_cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    document.output(str(path))
    return path


def test_paragraphs_have_their_page(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", [[LONG, "", LONG.replace("This", "That")], ["Page two."], [], ["Page four."]])
    assert [(element.page, element.text, element.headings) for element in parse(path, "a.pdf")] == [
        (1, LONG, ()),
        (1, LONG.replace("This", "That"), ()),
        (2, "Page two.", ()),
        (4, "Page four.", ()),
    ]


def test_a_pdf_under_another_name_is_still_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", [[LONG]])
    assert [element.text for element in parse(path, "notes.txt", "text/plain")] == [LONG]


def test_headers_and_footers_are_left_out(tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]
    pages = [[f"Words of {word}."] for word in words]
    path = write(tmp_path / "a.pdf", pages, header="Handbook, page {}", footer="Page {} of 5")
    assert [element.text for element in parse(path, "a.pdf")] == [page[0] for page in pages]


def test_items_of_a_list_stand_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", [["Two things:", "- " + LONG, "- second item", "1. third", "2) fourth", "Done."]])
    assert [element.text for element in parse(path, "a.pdf")] == [
        "Two things:",
        "- " + LONG,
        "- second item",
        "1. third",
        "2) fourth",
        "Done.",
    ]


def test_a_word_broken_at_the_end_of_a_line_is_joined(tmp_path: Path) -> None:
    first = "The words before it fill this line nearly to its right edge so that it is long: the config-"
    path = write(tmp_path / "a.pdf", [[first, "uration of the store."]])
    assert [element.text for element in parse(path, "a.pdf")] == [first[:-1] + "uration of the store."]


def test_a_hyphen_before_a_capital_stays(tmp_path: Path) -> None:
    first = "The words before it fill this line nearly to its right edge so that it is long: the Anglo-"
    path = write(tmp_path / "a.pdf", [[first, "Saxon chronicle."]])
    assert [element.text for element in parse(path, "a.pdf")] == [first + "Saxon chronicle."]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        (["", "  "], []),
        (["a" * 50, "b" * 50], ["a" * 50 + " " + "b" * 50]),
        (["a" * 50, "", "b" * 50], ["a" * 50, "b" * 50]),
        (["a" * 50, "b" * 20, "c" * 50], ["a" * 50 + " " + "b" * 20, "c" * 50]),
        (["a" * 43 + ".", "b" * 50], ["a" * 43 + ".", "b" * 50]),
        (["a" * 49 + ".", "b" * 50], ["a" * 49 + ". " + "b" * 50]),
        (["a" * 50, "- b", "• c", "12. d"], ["a" * 50, "- b", "• c", "12. d"]),
        (["word " * 10 + "con-", "text " * 10], ["word " * 10 + "context" + " text" * 9]),
        *(([f"a{hyphen}", "b"], ["ab"]) for hyphen in HYPHENS),
        ([f"so{HYPHENS[2]}me"], ["some"]),
    ],
)
def test_lines_become_paragraphs(lines: list[str], expected: list[str]) -> None:
    assert paragraphs(lines) == expected


@pytest.mark.parametrize(
    ("pages", "kept"),
    [
        ([["Head 1", "a", "1"], ["Head 2", "b", "2"], ["Head 3", "c", "3"]], [["a"], ["b"], ["c"]]),
        ([["Head", "a"], ["Head", "b"]], [["Head", "a"], ["Head", "b"]]),
        ([["Head", "a"], ["Head", "b"], ["Head", "c"], ["d"]], [["a"], ["b"], ["c"], ["d"]]),
        ([["a", "mid", "x"], ["b", "mid", "y"], ["c", "mid"]], [["a", "mid", "x"], ["b", "mid", "y"], ["c", "mid"]]),
        ([[], [], [], ["a"]], [[], [], [], ["a"]]),
    ],
)  # fmt: skip
def test_running_lines_are_those_that_most_pages_share(pages: list[list[str]], kept: list[list[str]]) -> None:
    assert without_running_lines(pages) == kept


def test_pages_that_are_all_alike_are_not_taken_for_running_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdf", [["Visitor badge", "Valid for one day"]] * 4)
    assert len(parse(path, "a.pdf")) >= 1


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="the PDF is encrypted; store it without a password"):
        parse(write(tmp_path / "a.pdf", [["secret"]], password="hunter2"), "a.pdf")


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    whole = write(tmp_path / "a.pdf", [[LONG]] * 3).read_bytes()
    (tmp_path / "a.pdf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PermanentError, match="the PDF is damaged or truncated"):
        parse(tmp_path / "a.pdf", "a.pdf")


def test_a_file_without_text_may_be_a_scan(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"the pdf file holds no text \(a scan\?\)"):
        parse(write(tmp_path / "a.pdf", [[], []]), "a.pdf")
