"""Keys as literals of Milvus' filter language, read back by the parser of a real Milvus."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_lite.search.filter.ast import InOp
from milvus_lite.search.filter.parser import parse_expr

from tasks.milvus.expressions import literal

KEYS = [
    "plain.md",
    "",
    'double " quote',
    "single ' quote",
    "back\\slash",
    "ends in a backslash\\",
    'backslash and quote \\"',
    "two\nlines\r\n",
    "tab\t",
    "größe/日本語/😀.md",
    "e\u0301 combined",
    "line separator \u2028",
    "100% #1 ?&=+.md",
    '"] or key != "',
    '" or 1 == 1 or key == "',
    "\\u0022",
    "{braces} [brackets] (parentheses)",
    "control \x01 \x08 \x0c \x1f \x7f",
    "x" * 1024,
]


def read_back(expression: str) -> list[str]:
    parsed = parse_expr(expression)
    assert isinstance(parsed, InOp)
    return [element.value for element in parsed.values.elements]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_read_back_as_it_was(key: str) -> None:
    assert read_back(f"key in {literal([key])}") == [key]
    assert read_back(f"key in [{literal(key)}]") == [key]


def test_a_list_of_keys_is_read_back_as_it_was() -> None:
    assert read_back(f"key in {literal(KEYS[:-2])}") == KEYS[:-2]
    assert read_back(f"key in {literal(key for key in ('a', 'b'))}") == ["a", "b"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=3))
def test_nothing_in_a_key_can_end_the_literal(keys: list[str]) -> None:
    assert read_back(f"key in {literal(keys)}") == keys
