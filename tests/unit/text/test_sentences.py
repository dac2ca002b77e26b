"""Sentences that can be quoted as they stand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.sentences import SHORTEST, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Too short.", []),
        ("One sentence here. Another one here!", ["One sentence here.", "Another one here!"]),
        ('He said "stop it now." Then he left.', ['He said "stop it now."', "Then he left."]),
        ("Version 2.3.5 is older. Yes. It is old.", ["Version 2.3.5 is older."]),
        ("First line of a list\nsecond line of it", ["First line of a list", "second line of it"]),
        ("日本語の文章はここで終わります。次の文章もここまで。", ["日本語の文章はここで終わります。"]),
        ("No full stop at the end", ["No full stop at the end"]),
        ("Wait for it ... then go on!? Really so.", ["Wait for it ...", "then go on!?"]),
    ],
)  # fmt: skip
def test_a_text_is_cut_into_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text('ab .!?\n\r\t。」")]»…\u2028', max_size=200) | st.text(max_size=200))
def test_every_sentence_is_a_verbatim_part_in_order(text: str) -> None:
    at = 0
    for sentence in sentences(text):
        at = text.index(sentence, at) + len(sentence)
        assert len(sentence) >= SHORTEST
        assert sentence == sentence.strip()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.text("abcdefgh ", min_size=20, max_size=60).filter(lambda text: len(text.strip()) > 15), min_size=1))
def test_no_long_sentence_is_left_out(parts: list[str]) -> None:
    stripped = [part.strip() + "." for part in parts]
    assert sentences(" ".join(stripped)) == stripped
