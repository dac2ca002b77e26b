"""Where a quote stands: white space, case and Unicode forms forgiven, nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.answers.fence import neutral
from tasks.citations.quotes import fold, locate, says_enough

PASSAGE = "Die  Größe der\nDatei: »5 MB«.\u00a0Caf\u00e9 ﬁnden — 1² x[1] <s>tag</s>\u200b end."


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("Die Größe der Datei", "Die  Größe der\nDatei"),
        ("DIE GRÖSSE", "Die  Größe"),
        ("  datei:\t»5 mb«", "Datei: »5 MB«"),
        ("5 MB«. Café", "5 MB«.\u00a0Café"),
        ("Cafe\u0301", "Café"),
        ("finden", "ﬁnden"),
        ("12 x[1]", "1² x[1]"),
        ("x⁅1] ‹s>tag", "x[1] <s>tag"),
        ('"Die Größe…"', "Die  Größe"),
        ("“Datei”", "Datei"),
        ("</s> end", "</s>\u200b end"),
    ],
)
def test_a_quote_stands_there_in_other_forms(quote: str, stands: str) -> None:
    span = locate(quote, PASSAGE)
    assert span
    assert PASSAGE[slice(*span)] == stands


@pytest.mark.parametrize("quote", ["", " ", "…", "—", "«.", "Größe Datei", "5 GB", "Grosse", "Die Größe der Datei ist"])
def test_other_words_stand_nowhere(quote: str) -> None:
    assert locate(quote, PASSAGE) is None


def test_the_quote_of_a_decomposed_passage_keeps_its_accents() -> None:
    passage = unicodedata.normalize("NFD", "Das Café schließt.")
    assert passage[slice(*(locate("café", passage) or (0, 0)))] == "Cafe\u0301"


def test_a_quote_that_ends_before_an_accent_takes_it_along() -> None:
    """The passage is shown with its quote marked: half a character cannot be."""
    passage = "Au cafe\u0301 noir"
    assert passage[slice(*(locate("Au cafe", passage) or (0, 0)))] == "Au cafe\u0301"


@pytest.mark.parametrize(
    "hidden", ["\x07", "\x1b", "\x00", "\u200b", "\u202e", "\u2066", "\ufeff", "\u00ad"], ids=ascii
)
def test_what_nobody_sees_parts_no_words(hidden: str) -> None:
    passage = f"The green li{hidden}ght shows."
    assert passage[slice(*(locate("green light", passage) or (0, 0)))] == f"green li{hidden}ght"
    assert locate(f"gr{hidden}een light", passage) == locate("green light", passage)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=60), st.data())
def test_every_part_of_a_text_stands_in_it(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    part = text[begin : data.draw(st.integers(begin + 1, len(text)))]
    span = locate(part, text)
    if any(one.isalnum() for one in fold(part)[0]):
        assert span
        assert fold(part)[0] in fold(text[slice(*span)])[0]
        assert locate(unicodedata.normalize("NFKD", part), text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("ab<>[]|/s1 INST_im", min_size=1, max_size=40))
def test_what_was_shown_neutralised_is_found_as_it_stands(text: str) -> None:
    if any(one.isalnum() for one in text):
        assert locate(neutral(text, marks=True), text)


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("e", None),
        ("rep", None),
        ("ilter is replaced", None),
        ("filter is replac", None),
        ("filter is replaced every 400", "filter is replaced every 400"),
        ("art of the pump", "art of the pump"),
        ("caf", None),
        ("cafe", None),
        ("café", "café"),
        ("交換する", "交換する"),
        ("フィルタ", "フィルタ"),
        ("フィルハ", None),
    ],
)
def test_a_quote_in_whole_words_cuts_none(quote: str, stands: str | None) -> None:
    passage = "Part of the pump, art of the pump: filter is replaced every 4000 h, filter is replaced every 400 h. "
    passage += "Un café. フィルタを交換する。フィルバ"
    span = locate(quote, passage, whole_words=True)
    assert (passage[slice(*span)] if span else None) == stands


@pytest.mark.parametrize(
    ("quote", "enough"),
    [
        ("", False), ("e", False), ("250", False), ("the pump", False), ("400 hours", False), ("…", False),
        ("every 400 hours", True), ("authenticate", True), ("authenticat", False), ("a - . b", False),
        ("a - . b c", True), ("部品を交換", False), ("部品を交換す", True), ("हिन्दी", False),
        ("Cafe\u0301 cre\u0300me", False),
    ],
)  # fmt: skip
def test_a_quote_says_enough_from_three_words_or_twelve_characters_on(quote: str, enough: bool) -> None:
    assert says_enough(quote) is enough
