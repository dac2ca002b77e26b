"""The sample corpus: every format, openable, the same bytes each time, and figures that are right."""

from __future__ import annotations

import email
import email.policy
import json
import time
from pathlib import Path

import pytest

from deployments.demo import samples

FORMATS = {".md", ".html", ".txt", ".pdf", ".docx", ".pptx", ".xlsx", ".csv", ".eml"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    samples.build(samples.DOCS, out)
    return out


def test_every_format_is_there_and_nothing_else(tmp_path: Path) -> None:
    files = samples.build(samples.DOCS, tmp_path)

    assert {path.suffix for path in files} == FORMATS
    assert files == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    assert {"concepts.md", "mail/why-generations.eml", "handbook.pdf"} <= names
    assert not any(name.startswith("sources/") for name in names)
    assert not {"decisions.md", "architecture.md"} & names


def test_a_second_build_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    # Zip entries keep times in steps of two seconds; a shorter wait could hide a clock that is still read.
    time.sleep(2.1)
    for again in samples.build(samples.DOCS, tmp_path):
        assert again.read_bytes() == (corpus / again.relative_to(tmp_path)).read_bytes(), again.name


def test_the_pdf_has_numbered_pages_with_its_text(corpus: Path) -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument(corpus / "handbook.pdf")
    pages = [page.get_textpage().get_text_bounded() for page in document]
    document.close()

    assert len(pages) >= 4
    for number, text in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in text
    assert "What to do when a file cannot be parsed" in pages[2]
    assert "put in quarantine together with the reason" in " ".join(pages[2].split())


def test_the_word_document_has_headings_lists_and_a_table(corpus: Path) -> None:
    import docx

    document = docx.Document(str(corpus / "security.docx"))
    styles = {paragraph.style.name for paragraph in document.paragraphs}

    assert {"Title", "Heading 1", "List Bullet"} <= styles
    assert "Least privilege for S3" in {paragraph.text for paragraph in document.paragraphs}
    assert document.tables[0].cell(2, 1).text == "MILVUS_TOKEN"
    policy = next(p.text for p in document.paragraphs if p.text.startswith("{"))
    assert [s["Action"] for s in json.loads(policy)["Statement"]] == ["s3:ListBucket", "s3:GetObject"]


def test_the_slides_are_eight_with_titles_and_bullets(corpus: Path) -> None:
    import pptx

    slides = list(pptx.Presentation(str(corpus / "tour.pptx")).slides)

    assert len(slides) == 8
    assert slides[0].shapes.title.text == "A tour of the pipeline"
    assert slides[5].shapes.title.text.startswith("Embedding")
    assert all(slide.placeholders[1].text_frame.text for slide in slides)
    assert [len(slide.placeholders[1].text_frame.paragraphs) for slide in slides[1:]] == [4] * 7


def test_the_figures_of_the_workbook_are_right(corpus: Path) -> None:
    import openpyxl

    book = openpyxl.load_workbook(corpus / "sizing.xlsx")
    assert book.sheetnames == ["Memory", "Disk"]
    for sheet, each in (("Memory", 0), ("Disk", 1300)):
        cells = list(book[sheet].iter_rows(values_only=True))
        rows = [row for row in cells if isinstance(row[0], int) and row[0] >= 10_000]
        assert len(rows) == 7
        for chunks, *megabytes in rows:
            expected = [chunks * (dim * 4 + 16 * 2 * 4 + each) / 1e6 for dim in (384, 768, 1024)]
            assert megabytes[:3] == pytest.approx(expected), (sheet, chunks)
    links = [row for row in book["Memory"].iter_rows(values_only=True) if row[0] in (8, 16, 32, 64)]
    assert [row[1] for row in links] == [m * 2 * 4 for m in (8, 16, 32, 64)]
    assert [row[2] for row in links] == [384 * 4 + m * 2 * 4 for m in (8, 16, 32, 64)]


def test_the_message_is_well_formed(corpus: Path) -> None:
    content = (corpus / "mail" / "why-generations.eml").read_bytes()
    message = email.message_from_bytes(content, policy=email.policy.default)

    assert not message.defects
    assert message["From"].addresses[0].addr_spec == "maintainers@example.org"
    assert message["Date"].datetime.utcoffset() is not None
    assert "never a mixture of the two" in message.get_content()


def test_golden_questions_name_files_that_exist(corpus: Path) -> None:
    golden = [json.loads(line) for line in (samples.DOCS / "golden.jsonl").read_text("utf-8").splitlines()]

    assert len(golden) >= 36
    assert len({entry["question"] for entry in golden}) == len(golden)
    asked: dict[str, int] = {}
    for entry in golden:
        assert set(entry) == {"question", "relevant", "answer"}
        for key in entry["relevant"]:
            assert (corpus / key).is_file(), entry
        suffix = Path(entry["relevant"][0]).suffix
        asked[suffix] = asked.get(suffix, 0) + 1
    assert asked.keys() == FORMATS
    assert min(asked.values()) >= 3


def test_markdown_is_read_into_blocks() -> None:
    blocks = samples.read_blocks(
        "# A *b*\n\ntwo\nlines of `code`\n\n1. x\n2. y\n\n- z\n\n| h | i |\n|---|---|\n| 1 | |\n"
    )

    assert [(b.kind, b.level, b.mark, b.text) for b in blocks[:-1]] == [
        ("heading", 1, "", "A b"),
        ("paragraph", 0, "", "two lines of code"),
        ("item", 0, "1.", "x"),
        ("item", 0, "2.", "y"),
        ("item", 0, "", "z"),
    ]
    assert blocks[-1].rows == (("h", "i"), ("1", ""))
