"""What BM25 reads of a text."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.milvus.rows import Columns, as_text
from tasks.milvus.schema import WORDS_BYTES
from tasks.models import Chunk
from tasks.text.words import _stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How are the deleted files handled?", ["delet", "file", "handl"]),
        ("Deleting a FILE", ["delet", "file"]),
        ("response_model", ["responsemodel", "respons", "model"]),
        ("readItems", ["readitem", "read", "item"]),
        ("HTTPException", ["httpexcept", "http", "except"]),
        ("X-Token: v1.2", ["x", "token", "v1", "2"]),
        ("__init__", ["init"]),
        ("what is it", ["what", "is", "it"]),
        ("Größe der Dateien", ["größe", "der", "dateien"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("FastAPIを使う", ["fastapi", "を使", "使う"]),
        ("?!… ___", []),
    ],
)
def test_words_are_stems_and_identifiers_come_whole_and_in_parts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_any_text_has_words_that_white_space_alone_keeps_apart(text: str) -> None:
    found = words(text)
    assert " ".join(found).split() == found
    assert words(text) == found


def test_an_identifier_is_found_by_its_parts_and_its_parts_by_it() -> None:
    assert set(words("exclude unset")) < set(words("response_model_exclude_unset"))
    assert "responsemodelexcludeunset" in words("the response_model_exclude_unset parameter")


def test_headings_are_read_too_and_no_more_than_milvus_stores() -> None:
    chunk = Chunk("id", "k", 0, "Press the button.", "Pumps › Starting", None, "", "h")
    assert as_text(chunk) == "pump start press button"
    long = Chunk("id", "k", 0, "größer " * 20_000, "", None, "", "h")
    assert WORDS_BYTES - 10 < len(as_text(long).encode()) <= WORDS_BYTES


def test_columns_that_a_generation_has_not_are_not_written() -> None:
    chunk = Chunk("id", "docs/acme/a.md", 0, "Text.", "", None, "", "h")
    assert Columns().of(chunk) == {}
    assert Columns(words=True, tenant=True, prefix="docs/").of(chunk) == {"words": "text", "tenant": "acme"}


def test_threads_do_not_get_the_words_of_others() -> None:
    """Stemmers keep the word that they work on: shared, one thread's ends are cut off another's word."""
    starts, ends = (
        ["relat", "hop", "nation", "vibr", "gener", "oper", "form", "activ"],
        ["ations", "izing", "fulness", "ivity", "ically", "ousness"],
    )
    texts = [f"{start}{'aeiou'[n % 5]}{n}x{end}" for start in starts for end in ends for n in range(40)]
    alone = {text: words(text) for text in texts}
    _stem.cache_clear()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            together = [
                threads.submit(lambda part: {text: words(text) for text in part}, texts[n::8]) for n in range(8)
            ]
            found = {text: said for one in together for text, said in one.result().items()}
    finally:
        sys.setswitchinterval(interval)
        _stem.cache_clear()
    assert found == alone
