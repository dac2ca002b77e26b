"""Filters as people write them, and what becomes of them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.search.filter.parser import parse_expr

from tasks.errors import MisuseError
from tasks.milvus.expressions import after, literal, starting_with
from tasks.retrieval.filters import DEEPEST, LONGEST, _grammar, compiled


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", ""),
        ("  ", ""),
        ("key=a.md", '(key == "a.md")'),
        ("key = 'a b.md'", '(key == "a b.md")'),
        ("prefix=guides/", '((key >= "guides/") and (key < "guides0"))'),
        ("page<=3 AND page!=2", "((page <= 3) and (page != 2))"),
        ("page=1 or page=2 and page=3", "((page == 1) or ((page == 2) and (page == 3)))"),
        ("(page=1 or page=2) and not page=3", "(((page == 1) or (page == 2)) and (not (page == 3)))"),
        ("page in (1,2)", "(page in [1, 2])"),
        ("last_modified>=2026-01-31", "(last_modified >= 1769817600000)"),
        ("last_modified<2026-01-31T01:00:00+01:00", "(last_modified < 1769817600000)"),
        ('metadata.Team="a\\"b"', '((exists metadata["team"]) and (metadata["team"] == "a\\"b"))'),
        (
            "metadata.team in (a, b)",
            '((exists metadata["team"]) and ((metadata["team"] == "a") or (metadata["team"] == "b")))',
        ),
    ],
)
def test_a_filter_is_said_in_the_language_of_milvus(text: str, expression: str) -> None:
    assert compiled(text) == expression


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tenant=acme", "no field 'tenant'"),
        ("prefix>a", "'prefix' does not allow >"),
        ("last_modified=2026-01-31", "'last_modified' does not allow ="),
        ("page=one", "page in a filter needs a number"),
        ("page=" + "9" * 24, "at most nine digits"),
        ("page=١", "page in a filter needs a number"),
        (b"key=\xff".decode("utf-8", "surrogateescape"), "not valid UTF-8 at character 5"),
        ("last_modified>yesterday", "needs a date like"),
        ("page=1 page=2", "from character 8 on: page=2"),
        ('key="a', 'from character 5 on: "a'),
        ("page=1 or", "from character 10 on: its end"),
        ("key in ()", "from character"),
        ("=1", "from character 1 on: =1"),
        ("(" * (DEEPEST + 1), "parentheses"),
        ("not " * (DEEPEST + 1) + "page=1", "negations"),
        ("x" * (LONGEST + 1), "the limit is 10,000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place_and_an_example(text: str, why: str) -> None:
    with pytest.raises(MisuseError) as refused:
        compiled(text)
    assert why in str(refused.value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_cannot_end_its_literal(value: str) -> None:
    said = value.replace("\\", "\\\\").replace('"', '\\"')
    try:
        expression = compiled(f'key!="{said}"')
    except MisuseError:  # a line's end inside quotes
        return
    parsed = parse_expr(expression)
    assert parsed.right.value == value  # type: ignore[attr-defined]


@given(st.text(min_size=1), st.text(), st.text())
def test_the_range_of_a_start_holds_what_starts_so_and_nothing_else(start: str, rest: str, other: str) -> None:
    end = after(start)
    assert start <= start + rest
    assert not end or start + rest < end
    if not other.startswith(start):
        assert other < start or (bool(end) and other >= end)


def test_a_start_that_nothing_follows_has_no_end() -> None:
    assert starting_with("key", "\U0010ffff") == f"(key >= {literal(chr(0x10FFFF))})"


def test_threads_may_read_filters_at_once_from_the_first_on() -> None:
    texts = [f'prefix=g{n}/ and page<={n} or not (metadata.t{n}="x" and heading in (a{n}, "b"))' for n in range(24)]
    alone = [compiled(text) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            _grammar.cache_clear()
            with ThreadPoolExecutor(8) as threads:
                assert list(threads.map(compiled, texts)) == alone
    finally:
        sys.setswitchinterval(interval)
        _grammar.cache_clear()
