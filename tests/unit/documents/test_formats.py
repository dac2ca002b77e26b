"""What kind of file it is: the bytes first, the name second, the content type last."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tasks.documents.formats import BY_SUFFIX, HEAD_BYTES, ZIPPED, detect
from tasks.errors import PermanentError


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    return tmp_path / "blob"


def zipped(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return path


@pytest.mark.parametrize(
    ("suffix", "expected"), [item for item in BY_SUFFIX.items() if item[1] not in ("pdf", "docx", "pptx", "xlsx")]
)
def test_text_is_what_its_name_says(blob: Path, suffix: str, expected: str) -> None:
    blob.write_bytes(b"some words")
    assert detect(blob, f"folder.v2/file name{suffix}") == expected
    assert detect(blob, f"FILE{suffix.upper()}", "application/pdf") == expected


@pytest.mark.parametrize("key", ["a.pdf", "a.txt", "a.docx", "a", "a.unknown"])
def test_a_pdf_is_a_pdf_under_any_name(blob: Path, key: str) -> None:
    blob.write_bytes(b"\r\n%PDF-1.7\n...")
    assert detect(blob, key) == "pdf"


@pytest.mark.parametrize("key", ["a.docx", "a.txt", "a.pdf", "a"])
@pytest.mark.parametrize(("member", "expected"), ZIPPED.items())
def test_an_office_file_is_told_by_what_is_in_it(blob: Path, key: str, member: str, expected: str) -> None:
    assert detect(zipped(blob, "[Content_Types].xml", member), key, "text/plain") == expected


def test_another_zip_is_refused(blob: Path) -> None:
    with pytest.raises(PermanentError, match="a zip, but not a Word, PowerPoint or Excel document"):
        detect(zipped(blob, "readme.txt"), "a.docx")


def test_a_truncated_zip_is_refused(blob: Path) -> None:
    whole = zipped(blob, "word/document.xml").read_bytes()
    blob.write_bytes(whole[:-10])
    with pytest.raises(PermanentError, match="damaged or truncated zip"):
        detect(blob, "a.docx")


@pytest.mark.parametrize("suffix", ["pdf", "docx", "pptx", "xlsx"])
def test_a_name_that_the_bytes_deny_is_refused(blob: Path, suffix: str) -> None:
    blob.write_bytes(b"just some words")
    with pytest.raises(PermanentError, match=rf"ends in \.{suffix}, but the content is not a {suffix.upper()} file"):
        detect(blob, f"a.{suffix}")


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n", b"\x00" * 10])
@pytest.mark.parametrize("key", ["a.txt", "a.pdf", "a", "a.unknown"])
def test_an_empty_file_is_called_empty(blob: Path, data: bytes, key: str) -> None:
    blob.write_bytes(data)
    with pytest.raises(PermanentError, match="the file is empty"):
        detect(blob, key)


def test_a_file_that_begins_with_much_white_space_is_not_empty(blob: Path) -> None:
    blob.write_bytes(b"\n" * (HEAD_BYTES + 1) + b"text at last")
    assert detect(blob, "a.txt") == "text"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/markdown", "md"),
        ("Text/HTML; charset=utf-8", "html"),
        ("text/plain", "text"),
        ("text/csv", "csv"),
        ("message/rfc822", "eml"),
        ("application/json", "json"),
    ],
)
def test_the_content_type_decides_where_the_name_says_nothing(blob: Path, content_type: str, expected: str) -> None:
    blob.write_bytes(b"some words")
    assert detect(blob, "a.unknown", content_type) == expected
    assert detect(blob, "no-extension", content_type) == expected


@pytest.mark.parametrize("key", ["LICENSE", "folder.d/README", ".gitignore"])
def test_text_without_an_extension_is_text(blob: Path, key: str) -> None:
    blob.write_bytes(b"some words")
    assert detect(blob, key, "application/octet-stream") == "text"


@pytest.mark.parametrize(
    ("key", "content_type", "words"),
    [
        ("a.exe", "", r"not read \(\.exe, no content type\)"),
        ("a.png", "image/png", r"not read \(\.png, image/png\)"),
        ("a.bin", "application/pdf", r"not read \(\.bin, application/pdf\)"),
        ("a.bin", "text/plain", r"not read \(\.bin, text/plain\)"),
        ("binary", "", r"not read \(no extension, no content type\)"),
    ],
)
def test_an_unknown_kind_is_refused_by_its_name(blob: Path, key: str, content_type: str, words: str) -> None:
    blob.write_bytes(b"MZ\x00\x01 some bytes")
    with pytest.raises(PermanentError, match=words):
        detect(blob, key, content_type)
