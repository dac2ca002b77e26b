"""Detect the format of a file, from its bytes first and its name second."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from tasks.errors import PermanentError, UnsuitableError

Format = Literal["md", "html", "text", "pdf", "docx", "pptx", "xlsx", "csv", "tsv", "eml", "json"]

BY_SUFFIX: dict[str, Format] = {
    ".md": "md", ".markdown": "md", ".mdx": "md",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf", ".docx": "docx", ".pptx": "pptx", ".xlsx": "xlsx",
    ".csv": "csv", ".tsv": "tsv", ".eml": "eml", ".json": "json", ".jsonl": "text",
    **dict.fromkeys(
        (
            ".txt", ".text", ".log", ".rst", ".adoc", ".org", ".tex", ".srt", ".vtt", ".yaml", ".yml", ".toml",
            ".ini", ".cfg", ".conf", ".xml", ".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".go", ".rs", ".c", ".h",
            ".cpp", ".hpp", ".cs", ".rb", ".php", ".sh", ".sql", ".r", ".scala", ".kt", ".swift", ".lua", ".css",
        ),
        "text",
    ),
}  # fmt: skip

BY_TYPE: dict[str, Format] = {
    "text/markdown": "md",
    "text/html": "html",
    "text/plain": "text",
    "text/csv": "csv",
    "application/pdf": "pdf",
    "message/rfc822": "eml",
    "application/json": "json",
}

ZIPPED: dict[str, Format] = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
}

HEAD_BYTES = 4096
BLANK = b"\x00 \t\r\n\xef\xbb\xbf"


def office_format(path: Path) -> Format:
    """Return the Office format of a zip. Raises ``PermanentError`` if it is another kind of zip, or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise PermanentError(f"the file is a damaged or truncated zip ({error})") from error
    for member, found in ZIPPED.items():
        if member in names:
            return found
    raise UnsuitableError("the file is a zip, but not a Word, PowerPoint or Excel document")


def detect(path: Path, key: str, content_type: str = "") -> Format:
    """Return the format of the file at ``path``.

    The first bytes win over the name, so a PDF called .txt is read as a PDF. Raises ``PermanentError`` for an empty
    file, an unknown format, and a name that the bytes contradict.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        while head and not head.strip(BLANK):
            head = file.read(HEAD_BYTES)
    if not head:
        raise UnsuitableError("the file is empty")
    by_name = BY_SUFFIX.get(Path(key).suffix.lower())
    if head.lstrip().startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return office_format(path)
    if by_name in ("pdf", "docx", "pptx", "xlsx"):
        raise PermanentError(f"the name ends in .{by_name}, but the content is not a {by_name.upper()} file")
    if by_name:
        return by_name
    by_type = BY_TYPE.get(content_type.split(";", maxsplit=1)[0].strip().lower())
    if by_type in ("md", "html", "text", "csv", "eml", "json") and b"\x00" not in head:
        return by_type
    if not Path(key).suffix and b"\x00" not in head:
        return "text"  # LICENSE, README, Makefile: decoding shows whether it is text
    suffix = Path(key).suffix or "no extension"
    raise UnsuitableError(f"files of this type are not read ({suffix}, {content_type or 'no content type'})")
