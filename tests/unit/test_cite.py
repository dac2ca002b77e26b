"""Citations of a model's answer: only what was shown, with the words it rests on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cite import abstains, check, cited_numbers, claim_of, supporting_quote, without_unknown
from tasks.models import Hit
from tasks.prompt import ABSTAIN

PASSAGES = (
    Hit(
        "c1", "deletes.md", 0.9, "Deletes are recorded first. They are retried until Milvus confirms.", "Deletes", None
    ),
    Hit("c2", "handbook.pdf", 0.8, "A rename embeds nothing.\nAn edit embeds what it touches.", "", 4),
    Hit("c3", "short.txt", 0.7, "Port: 9000", "", None),
)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("", []),
        ("No marks.", []),
        ("One [1].", [1]),
        ("[2] then [1, 3] and [2]", [2, 1, 3]),
        ("adjacent [1][3]", [1, 3]),
        ("spaces [1 , 2,3]", [1, 2, 3]),
        ("not marks [a] [1a] [1.5] []", []),
        ("a year [2026] is none", []),
    ],
)
def test_the_numbers_that_are_cited(answer: str, numbers: list[int]) -> None:
    assert cited_numbers(answer) == numbers


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("One [1]. Two [2].", "One [1]. Two [2]."),
        ("One [4].", "One."),
        ("Zero [0] and [00].", "Zero and."),
        ("Both [1, 9].", "Both [1]."),
        ("Both [1, 3].", "Both [1] [3]."),
        ("All [7, 8, 9] gone.", "All gone."),
        ("[2] first", "[2] first"),
        ("glued[1]", "glued [1]"),
        ("[999]", ""),
    ],
)
def test_numbers_of_no_passage_are_dropped(answer: str, kept: str) -> None:
    assert without_unknown(answer, 3) == kept


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("ab [],.0123456789\n", max_size=80), st.integers(0, 12))
def test_whatever_the_answer_only_known_passages_are_cited(answer: str, known: int) -> None:
    kept = without_unknown(answer, known)
    assert all(1 <= n <= known for n in cited_numbers(kept))
    assert set(cited_numbers(kept)) == {n for n in cited_numbers(answer) if 1 <= n <= known}


def test_a_claim_is_the_sentences_that_cite_the_passage() -> None:
    answer = "Deletes come first [1]. Renames are free [2]. They are retried. [1] Edits cost little [1, 2]."
    assert claim_of(answer, 1) == "Deletes come first [1]. They are retried. [1] Edits cost little [1, 2]."
    assert claim_of(answer, 2) == "Renames are free [2]. Edits cost little [1, 2]."
    assert claim_of(answer, 3) == ""


@pytest.mark.parametrize(
    ("claim", "passage", "quote"),
    [
        ("It is retried until confirmed [1].", PASSAGES[0].text, "They are retried until Milvus confirms."),
        ("First, a delete is recorded [1].", PASSAGES[0].text, "Deletes are recorded first."),
        ("An edit embeds little [2].", PASSAGES[1].text, "An edit embeds what it touches."),
        ("Nothing in common", PASSAGES[1].text, "A rename embeds nothing."),
        ("The port is 9000 [3].", PASSAGES[2].text, "Port: 9000"),
        ("", "  padded  ", "padded"),
    ],
)
def test_the_quote_is_the_sentence_that_shares_most_words(claim: str, passage: str, quote: str) -> None:
    assert supporting_quote(claim, passage) == quote


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=60), st.text("ab .!?\n\t\"'。", max_size=120) | st.text(max_size=120))
def test_a_quote_stands_in_its_passage_word_for_word(claim: str, passage: str) -> None:
    assert supporting_quote(claim, passage) in passage


def test_a_checked_answer_cites_what_it_was_shown() -> None:
    answer, citations = check("Edits embed what they touch [2]. They are retried [1, 5]. Nonsense [9].", PASSAGES)
    assert answer == "Edits embed what they touch [2]. They are retried [1]. Nonsense."
    assert [(one.n, one.key, one.heading, one.page, one.chunk_id) for one in citations] == [
        (2, "handbook.pdf", "", 4, "c2"),
        (1, "deletes.md", "Deletes", None, "c1"),
    ]
    assert [one.quote for one in citations] == [
        "An edit embeds what it touches.",
        "They are retried until Milvus confirms.",
    ]


def test_an_answer_that_cites_nothing_has_no_citations() -> None:
    assert check("Just words.", PASSAGES) == ("Just words.", ())
    assert check("Only made up [7].", PASSAGES) == ("Only made up.", ())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ABSTAIN, True),
        (f' "{ABSTAIN}"\n', True),
        (ABSTAIN.upper(), True),
        (ABSTAIN.rstrip("."), True),
        ("", True),
        ("The documents say that deletes come first [1].", False),
        (f"Deletes come first [1]. {ABSTAIN}", False),
    ],
)
def test_an_answer_that_abstains(answer: str, expected: bool) -> None:
    assert abstains(answer) is expected
