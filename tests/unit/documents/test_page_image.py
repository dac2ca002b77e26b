"""Where a quote stands on a page, and pages that cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.documents.page_image import draw, find, lines
from tasks.errors import PermanentError


@pytest.mark.parametrize(
    ("page", "chunk", "quote", "found"),
    [
        ("The filter\r\nis new.", "The filter is new.", "filter is new", "filter\r\nis new"),
        ("every opera\ufffe\r\ntion", "every operation", "operation", "opera\ufffe\r\ntion"),
        ("every opera-\r\ntion", "every operation", "operation", "opera-\r\ntion"),
        ("the \ufb01lter", "the filter", "filter", "\ufb01lter"),
        ("用 K7\r\n型。", "用 K7 型。", "K7 型", "K7\r\n型"),
        ("nothing of it", "The filter", "filter", None),
        ("the filter", "— …", "—", None),
    ],
)  # fmt: skip
def test_a_quote_is_found_whatever_the_layout(page: str, chunk: str, quote: str, found: str | None) -> None:
    begin = chunk.index(quote)
    place = find(page, chunk, (begin, begin + len(quote)))
    assert (page[slice(*place)] if place else None) == found


def test_of_several_places_the_one_in_its_context_counts() -> None:
    page = "Inlet: close the valve.\r\nOutlet: close the valve.\r\nDrain: close the valve."
    chunk = "Outlet: close the valve."
    assert find(page, chunk, (8, 23)) == (page.index("Outlet") + 8, page.index("Outlet") + 23)


def test_characters_of_a_line_become_one_box() -> None:
    assert lines([(0, 10, 5, 20), (6, 12, 9, 19), (0, 30, 5, 40)]) == [(0, 10, 9, 20), (0, 30, 5, 40)]


@pytest.mark.parametrize("content", [b"", b"no PDF", b"%PDF-1.7\n1 0 obj <<"])
def test_a_file_that_is_no_pdf_has_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="cannot be drawn"):
        draw(path, 1, "text", (0, 4))


def test_a_page_that_the_file_has_not_has_no_picture(tmp_path: Path) -> None:
    from fpdf import FPDF

    document = FPDF()
    document.add_page()
    document.output(str(tmp_path / "a.pdf"))
    assert draw(tmp_path / "a.pdf", 1, "text", None).startswith(b"\x89PNG")
    with pytest.raises(PermanentError, match="cannot be drawn"):
        draw(tmp_path / "a.pdf", 2, "text", None)


def test_a_page_of_any_size_is_a_picture_of_some_size(tmp_path: Path) -> None:
    import io

    from fpdf import FPDF
    from PIL import Image

    for shape in ((4, 5000), (5000, 4)):
        document = FPDF(unit="mm", format=shape)
        document.add_page()
        document.output(str(tmp_path / "a.pdf"))
        picture = Image.open(io.BytesIO(draw(tmp_path / "a.pdf", 1, "text", None)))
        assert max(picture.size) <= 2400


def test_a_page_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.documents.page_image.SECONDS", 0.01)
    with pytest.raises(PermanentError, match="more than"):
        draw(tmp_path / "a.pdf", 1, "text", None)
