"""Files made to hang, exhaust or deceive a parser: each is indexed or quarantined, and its neighbours are indexed.

Damaged files are tried for a minute, and how many that were is printed; they are the same in every run.
`LOCKSTEP_RANDOM_FILES=1000 python -m pytest tests/faults/test_hostile_files.py` tries so many.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdf
import pytest

from deployments.demo import samples
from flows.audit import audit
from flows.sync import sync
from tasks.ledger import quarantine
from tasks.ledger.database import Database
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.servers import ROOT, Bucket

LIMIT = r"more memory than the limit of 300 MiB|took more than 45 s"
"""Which limit a bomb comes to first depends on the machine."""
RANDOM_FILES = int(os.environ.get("LOCKSTEP_RANDOM_FILES", "0"))
SECONDS = 30.0
"""For how long damaged files are tried when their number is not given."""
AT_ONCE = 20
"""Damaged files of one sync."""
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
ENTITIES = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'


def zipped(like: bytes, name: str, head: bytes, block: bytes = b"", times: int = 0, tail: bytes = b"") -> bytes:
    """An Office file with one member replaced by ``head``, ``block`` so many times over, and ``tail``."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(like)) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for other in old.namelist():
            if other != name:
                new.writestr(other, old.read(other))
        with new.open(name, "w", force_zip64=True) as member:
            member.write(head)
            for _ in range(times // 1000):
                member.write(block * 1000)
            member.write(tail)
    return made.getvalue()


def pdf(encrypt: bool = False) -> bytes:
    made = io.BytesIO()
    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    if encrypt:
        writer.encrypt("secret")
    writer.write(made)
    return made.getvalue()


def wide_csv() -> bytes:
    """A hundred thousand columns, and a row that has something in every thousandth."""
    names = ",".join(f"column {n}" for n in range(100_000))
    return f"{names}\n{','.join('' if n % 1000 else 'full' for n in range(100_000))}\n".encode()


def looping_pdf() -> bytes:
    """A page tree that contains itself."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 1000000>>endobj\n"
        b"trailer<</Root 1 0 R>>\n%%EOF\n"
    )


@pytest.fixture(scope="module")
def sample_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("samples")
    samples.build(ROOT / "docs", folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def hostile(sample_files: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    """Each file with what its quarantine's reason says, a pattern; "" when its text is indexed."""
    docx, xlsx = (next(body for key, body in sample_files.items() if key.endswith(end)) for end in (".docx", ".xlsx"))
    document = (f"<w:document {W}><w:body>".encode(), b"</w:body></w:document>")
    paragraph = b"<w:p><w:r><w:t>" + b"bomb " * 200 + b"</w:t></w:r></w:p>"
    sheet = (f"<worksheet {S}><sheetData>".encode(), b"</sheetData></worksheet>")
    row = b"<row><c t='inlineStr'><is><t>" + b"bomb " * 200 + b"</t></is></c></row>"
    laughing = f"{ENTITIES}<w:document {W}><w:body><w:p><w:r><w:t>&l9;</w:t></w:r></w:p></w:body></w:document>"
    workbook = f"{ENTITIES}<workbook {S}><sheets><sheet name='&l9;' sheetId='1'/></sheets></workbook>"
    return {
        "bomb.docx": (zipped(docx, "word/document.xml", document[0], paragraph, 500_000, document[1]), LIMIT),
        "bomb.xlsx": (zipped(xlsx, "xl/worksheets/sheet1.xml", sheet[0], row, 1_000_000, sheet[1]), LIMIT),
        "laughs.docx": (zipped(docx, "word/document.xml", laughing.encode()), "docx"),
        "laughs.xlsx": (zipped(xlsx, "xl/workbook.xml", workbook.encode()), "xlsx"),
        "empty-rows.xlsx": (
            zipped(xlsx, "xl/worksheets/sheet1.xml", sheet[0], b"<row></row>", 1_000_000, sheet[1]),
            LIMIT,
        ),
        "wide.csv": (wide_csv(), ""),
        "spaces.txt": (b" \n" * 25_000_000, "empty"),
        "truncated.pdf": (next(body for key, body in sample_files.items() if key.endswith(".pdf"))[:400], "PDF"),
        "encrypted.pdf": (pdf(encrypt=True), "encrypted"),
        "looping.pdf": (looping_pdf(), "pdf"),
        "deep.html": (b"<div>" * 200_000 + b"at the bottom" + b"</div>" * 200_000, "255 levels"),
        "deep.json": (b"[" * 500_000 + b"]" * 500_000, "json"),
        "nul.txt": (b"A text with a NUL \x00 in its middle is still a text.", ""),
        "nuls.txt": (b"\x00" * 100_000, "empty"),
        "web-page.pdf": (b"<html><body>This is no PDF at all.</body></html>", "not a PDF"),
        "pdf-in-truth.txt": (pdf(), "scan"),
        "zero.md": (b"", "empty"),
        "line.txt": (b"x" * 100_000_000, "max_bytes"),
        "long-line.txt": (b"word " * 60_000, ""),
        "latin.txt": ("Grüße aus Köln, schöne Straßen und mehr Wörter.".encode("latin-1"), ""),
        "damaged.txt": (("Ein langer Satz über Straßen und Wörter. " * 50).encode() + b"\xc3", "UTF-8"),
        "broken.json": (b'{"a": [1, 2', "JSON"),
        'a" or key != ".txt': (b"A key that looks like a filter is only a key.", ""),
        "back\\slash\\..\\x.txt": (b"A key with backslashes is only a key.", ""),
    }


def outcomes(name: str) -> tuple[set[str], dict[str, str]]:
    """The keys that are indexed, and the reasons of those in quarantine."""
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    collection = store.live()
    assert collection is not None
    held = {row["key"] for row in store.rows(collection, ["key"])}
    return held, {row["key"]: row["reason"] for row in quarantine.quarantined(Database(block.ledger), collection)}


@pytest.mark.timeout(900)
def test_hostile_files_harm_nobody(
    make_pipeline: Callable[..., str], bucket: Bucket, sample_files: dict[str, bytes]
) -> None:
    files = hostile(sample_files)
    for number, (key, (body, _)) in enumerate(files.items()):
        bucket.put(key, body)
        bucket.put(f"neighbour-{number:02d}.txt", f"A harmless neighbour, number {number}, of a hostile file.")
    name = make_pipeline(parse_seconds=45.0, parse_memory_mb=300, max_failed_share=1.0)
    sync(name)
    held, quarantined = outcomes(name)
    assert {f"neighbour-{number:02d}.txt" for number in range(len(files))} <= held
    for key, (_, reason) in files.items():
        if reason:
            assert key in quarantined, key
            assert re.search(reason, quarantined[key]), (key, quarantined[key])
        else:
            assert key in held, (key, quarantined.get(key))
    assert audit(name).consistent


def damaged(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files with flipped bytes, cut ends, swapped names, or nothing but noise; the same ones in every run."""
    chance = random.Random(20_26)
    whole = sorted(files.items())
    for number in itertools.count():
        key, body = chance.choice(whole)
        suffix = Path(key).suffix
        kind = chance.randrange(5)
        if kind == 0:
            spoiled = bytearray(body)
            for _ in range(chance.randint(1, 200)):
                spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
            body = bytes(spoiled)
        elif kind == 1:
            body = body[: chance.randrange(len(body))]
        elif kind == 2:
            suffix = Path(chance.choice(whole)[0]).suffix
        elif kind == 3:
            body = chance.randbytes(chance.randint(0, 20_000))
        else:
            body = body[chance.randrange(len(body)) :] + body
        yield f"damaged/{number:04d}{suffix}", body


@pytest.mark.timeout(1800)
def test_no_damaged_file_hangs_a_run_or_goes_unreported(
    make_pipeline: Callable[..., str],
    bucket: Bucket,
    sample_files: dict[str, bytes],
    record_property: Callable[[str, object], None],
) -> None:
    files, keys = damaged(sample_files), set[str]()
    name = make_pipeline(parse_seconds=20.0, max_failed_share=1.0)
    began = time.monotonic()
    while len(keys) < RANDOM_FILES if RANDOM_FILES else time.monotonic() - began < SECONDS:
        some = dict(itertools.islice(files, AT_ONCE))
        for key, body in some.items():
            bucket.put(key, body)
        keys |= some.keys()
        assert sync(name).new == len(some)
    held, quarantined = outcomes(name)
    assert held | quarantined.keys() == keys
    assert not held & quarantined.keys()
    assert all(quarantined.values())
    assert audit(name).consistent
    record_property("tried", f"{len(keys)} damaged files, {len(quarantined)} of them in quarantine")
