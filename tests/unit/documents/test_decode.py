"""Bytes become text, or a reason: never something that reads like text and is not."""

from __future__ import annotations

import gzip
import random

import pytest

from tasks.documents.decode import decode
from tasks.errors import PermanentError

FRENCH = "L'été dernier, nous avons mangé à la terrasse d'un café près de la forêt. Ça a coûté très cher."
GERMAN = "Die Größe des Gebäudes überraschte die Besucher. Über die Brücke führen täglich tausende Fußgänger."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю. " * 3
JAPANESE = "これは日本語の文章です。文字コードはシフトJISです。" * 3
CHINESE = "这是一个中文文档，用于测试编码检测。" * 5


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "utf-8"),
        (FRENCH, "utf-8-sig"),
        (FRENCH, "latin-1"),
        (GERMAN, "latin-1"),
        (GERMAN + " „Zitat“ – 5 €", "cp1252"),
        (RUSSIAN, "cp1251"),
        (JAPANESE, "shift_jis"),
        (CHINESE, "gb18030"),
        (JAPANESE, "utf-16"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        ("𠀀😀 beyond the first plane", "utf-32"),
        ("𠀀😀 beyond the first plane", "utf-16"),
        ("plain words in UTF-16 without a mark", "utf-16-le"),
        ("𠀀😀 beyond the first plane", "utf-8"),
    ],
)
def test_text_is_decoded(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("bom_and_encoding", [(b"\xfe\xff", "utf-16-be"), (b"\x00\x00\xfe\xff", "utf-32-be")])
def test_a_byte_order_mark_decides(bom_and_encoding: tuple[bytes, str]) -> None:
    bom, encoding = bom_and_encoding
    assert decode(bom + GERMAN.encode(encoding)) == GERMAN


def test_line_ends_are_made_alike_and_nul_characters_removed() -> None:
    assert decode(b"one\r\ntwo\rthree\nfo\x00ur") == "one\ntwo\nthree\nfour"


@pytest.mark.parametrize(
    "data",
    [
        *(random.Random(seed).randbytes(3_000) for seed in range(5)),
        gzip.compress(b"hello world " * 1_000, mtime=0),
        b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(500),
        b"\x7fELF\x02\x01\x01" + bytes(57) + random.Random(2).randbytes(500),
        bytes(range(1, 9)) * 100,
    ],
)
def test_binary_is_refused(data: bytes) -> None:
    with pytest.raises(PermanentError, match=r"is binary, not text|is not UTF-8 \(byte \d+\)"):
        decode(data)


@pytest.mark.parametrize(("of_a_hundred", "is_text"), [(0, True), (5, True), (6, False), (20, False), (45, False)])
def test_few_control_characters_are_overlooked_and_many_are_not_text(of_a_hundred: int, is_text: bool) -> None:
    data = b"\x02" * of_a_hundred + b"a" * (100 - of_a_hundred)
    if is_text:
        assert decode(data) == data.decode()
    else:
        with pytest.raises(PermanentError, match="is binary, not text"):
            decode(data)


def test_a_file_that_breaks_its_own_byte_order_mark_is_refused_with_the_place() -> None:
    with pytest.raises(PermanentError, match="marked as utf-8-sig, but byte 3 is not"):
        decode(b"\xef\xbb\xbfok \xff")
    with pytest.raises(PermanentError, match="marked as utf-16, but byte"):
        decode(b"\xff\xfea\x00\x00\xd8a")


@pytest.mark.parametrize("damage", [b"\xff", b"\xff\xfe\xfa", b"\xc3", b"\xe2\x82"])
def test_damaged_utf8_is_refused_and_not_read_as_something_else(damage: bytes) -> None:
    data = "Ünïcode text, größer als sonst – damaged".encode() + damage + " hier. Schöne Grüße".encode()
    with pytest.raises(PermanentError, match=r"not UTF-8 \(byte \d+\)"):
        decode(data)


def test_accents_are_found_however_late_they_come() -> None:
    text = "plain ASCII words in a line\n" * 10_000 + "and one café at the end\n"
    assert decode(text.encode("latin-1")) == text


@pytest.mark.parametrize("shift", range(3))
def test_a_long_text_of_two_byte_characters_is_decoded_wherever_the_sample_ends(shift: int) -> None:
    text = "a" * shift + "これは日本語の文章です。\n" * 9_000
    assert decode(text.encode("shift_jis")) == text
