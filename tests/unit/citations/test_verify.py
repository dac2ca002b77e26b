"""Citations of a model's answer: only what was shown, with the words it rests on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.answers.generate import from_marks
from tasks.answers.prompt import ABSTAIN, abstains
from tasks.citations.drafts import Cited, Draft
from tasks.citations.markers import cited_numbers, pieces, states, without_unknown
from tasks.citations.verify import UNVERIFIED, check, supporting_quote, supports
from tasks.models import Checked, Claim, Hit, Part

PASSAGES = (
    Hit(
        "c1",
        "deletes.md",
        0.9,
        "Deletes are recorded first. They are retried until Milvus confirms.",
        "Deletes",
        None,
        etag="etag-1",
    ),
    Hit("c2", "handbook.pdf", 0.8, "A rename embeds nothing.\nAn edit embeds what it touches.", "", 4, etag="etag-2"),
    Hit("c3", "short.txt", 0.7, "Port number: 9000", "", None),
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


@pytest.mark.parametrize(
    ("claim", "passage", "quote"),
    [
        ("It is retried until confirmed [1].", PASSAGES[0].text, "They are retried until Milvus confirms."),
        ("First, a delete is recorded [1].", PASSAGES[0].text, "Deletes are recorded first."),
        ("An edit embeds little [2].", PASSAGES[1].text, "An edit embeds what it touches."),
        ("Nothing in common", PASSAGES[1].text, "A rename embeds nothing."),
        ("The port is 9000 [3].", PASSAGES[2].text, "Port number: 9000"),
        ("", "  padded  ", "padded"),
    ],
)
def test_the_quote_is_the_sentence_that_shares_most_words(claim: str, passage: str, quote: str) -> None:
    assert supporting_quote(claim, passage) == quote


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=60), st.text("ab .!?\n\t\"'。", max_size=120) | st.text(max_size=120))
def test_a_quote_stands_in_its_passage_word_for_word(claim: str, passage: str) -> None:
    assert supporting_quote(claim, passage) in passage


def marked(text: str, strict: bool = False) -> Checked:
    return check(from_marks(pieces(text)), PASSAGES, strict)


def test_a_marked_answer_cites_what_it_was_shown() -> None:
    found = marked("Edits embed what they touch [2]. They are retried [1, 5]. Nonsense [9].")
    assert found.text == "Edits embed what they touch [2]. They are retried [1]. Nonsense. [?]"
    assert [(one.n, one.key, one.heading, one.page, one.chunk_id, one.version) for one in found.citations] == [
        (2, "handbook.pdf", "", 4, "c2", "etag-2"),
        (1, "deletes.md", "Deletes", None, "c1", "etag-1"),
    ]
    assert [one.quote for one in found.citations] == [
        "An edit embeds what it touches.",
        "They are retried until Milvus confirms.",
    ]
    assert [(one.text, one.citations, one.verified) for one in found.claims] == [
        ("Edits embed what they touch.", (2,), True),
        ("They are retried.", (1,), True),
        ("Nonsense.", (), False),
    ]


def test_an_answer_that_cites_nothing_has_no_citations() -> None:
    assert marked("Just words.").citations == ()
    assert marked("Only made up [7].") == Checked("Only made up. [?]", (Claim("Only made up."),), ())


def test_a_mark_behind_what_its_passage_does_not_speak_of_is_not_verified() -> None:
    found = marked("Penguins swim well in cold water [2]. Edits embed what they touch [2].")
    assert found.text == "Penguins swim well in cold water [2]. [?] Edits embed what they touch [2]."
    assert [(one.verified, one.quote, one.span is None) for one in found.citations] == [
        (False, "", True),
        (True, "An edit embeds what it touches.", False),
    ]
    strict = marked("Penguins swim well in cold water [2]. Edits embed little [2].", strict=True)
    assert strict.text == "Edits embed little [2]."


@pytest.mark.parametrize(
    ("quote", "does"),
    [
        ("Penguins swim.", True),  # two of six
        ("Penguins fly.", False),  # one of six
        ("Pumps need oil.", False),
    ],
)
def test_a_quote_that_we_chose_has_a_third_of_the_words_at_least(quote: str, does: bool) -> None:
    assert supports(quote, "Penguins swim below frozen polar oceans [2].") is does


@pytest.mark.parametrize("escaping", ["No.", "42%.", "The password is hunter2:", "# The pump must never be serviced"])
def test_nothing_short_or_odd_escapes_being_strict(escaping: str) -> None:
    assert marked(f"{escaping}\nEdits embed little [2].", strict=True).text == "Edits embed little [2]."
    assert (UNVERIFIED in marked(f"{escaping}\nEdits embed little [2].").text) is states(escaping)


def test_strict_keeps_the_number_of_a_list_with_what_it_belongs_to() -> None:
    found = marked("1. Edits embed little [2].\n2. Nonsense [9].", strict=True)
    assert found.text == "1. Edits embed little [2]."
    assert [one.text for one in found.claims] == ["Edits embed little."]


@pytest.mark.parametrize("bare", ["250.", "99", "B.", "3)", "250. 99. B.", "- 7."])
def test_a_bare_number_is_a_claim(bare: str) -> None:
    """'How many?' is answered by a number alone: nothing proves it."""
    assert marked(bare, strict=True) == Checked("")
    assert marked(f"Edits embed little [2].\n{bare}", strict=True).text == "Edits embed little [2]."
    assert marked(f"Edits embed little [2]. {bare}", strict=True).text == "Edits embed little [2]."
    assert not any(claim.verified for claim in marked(bare).claims)
    assert marked(bare).text.endswith(UNVERIFIED)


@pytest.mark.parametrize("quote", ["e", "ed", "rename", "ename embeds nothing", "rename embeds noth", "touches"])
def test_a_quote_of_a_letter_or_of_parts_of_words_proves_nothing(quote: str) -> None:
    found = check([draft("Renames cost much.", (2, quote))], PASSAGES)
    assert [(one.verified, one.span) for one in found.citations] == [(False, None)]
    assert check([draft("Renames cost much.", (2, quote))], PASSAGES, strict=True) == Checked("")


def test_of_a_quote_across_two_chunks_what_is_shown_has_to_say_enough() -> None:
    first, second = "Rule seven: it does not ", "apply to dogs at all."
    parts = (Part("c1", None, 0, len(first)), Part("c2", None, len(first), len(first) + len(second)))
    passage = Hit("c1", "rules.md", 0.9, first + second, "", None, parts=parts)
    for quote, verified in (("not apply to", False), ("not apply to dogs at all", True)):
        found = check([draft("Rule seven applies to dogs.", (1, quote))], [passage])
        assert [one.verified for one in found.citations] == [verified], quote


@pytest.mark.parametrize(("claim", "quote"), [("Yes.", "a rename embeds nothing"), ("9000.", "Port number: 9000")])
def test_a_short_answer_stands_on_a_quote_that_is_long_enough(claim: str, quote: str) -> None:
    passage = 2 if "rename" in quote else 3
    assert check([draft(claim, (passage, quote))], PASSAGES, strict=True).text == f"{claim} [{passage}]"


def test_what_states_nothing_needs_no_citation() -> None:
    assert marked("# Edits\nAs follows:\n1. Edits embed little [2].\n").text == (
        "# Edits\nAs follows:\n1. Edits embed little [2]."
    )


def test_strict_leaves_out_what_is_not_verified() -> None:
    assert marked("Edits embed little [2]. Nonsense [9]. Words.", strict=True).text == "Edits embed little [2]."
    assert marked("Nonsense [9]. # Title", strict=True) == Checked("")


def draft(text: str, *cited: tuple[int, str]) -> Draft:
    return Draft(text, tuple(Cited(n, quote) for n, quote in cited))


def test_a_quote_that_stands_there_is_verified_wherever_its_line_breaks() -> None:
    found = check([draft("Renames are free.", (2, "a RENAME  embeds nothing. An edit"))], PASSAGES)
    assert found.text == "Renames are free. [2]"
    (one,) = found.citations
    assert one.verified
    assert one.quote == "A rename embeds nothing.\nAn edit"
    assert one.span
    assert PASSAGES[1].text[slice(*one.span)] == one.quote


def test_a_false_quote_is_kept_as_not_verified_and_the_claim_is_marked() -> None:
    found = check([draft("Renames cost much.", (2, "a rename embeds everything"))], PASSAGES)
    assert found.text == "Renames cost much. [?]"
    (one,) = found.citations
    assert (one.n, one.verified, one.span, one.quote) == (2, False, None, "a rename embeds everything")
    assert found.claims == (Claim("Renames cost much.", (2,), False),)
    assert check([draft("Renames cost much.", (2, "a rename embeds everything"))], PASSAGES, strict=True) == Checked("")


def test_a_quote_of_another_passage_is_not_verified() -> None:
    (one,) = check([draft("Port 9000.", (1, "Port number: 9000"))], PASSAGES).citations
    assert not one.verified


@pytest.mark.parametrize("n", [0, -1, 4, 10**9])
def test_a_passage_outside_of_the_context_is_dropped(n: int) -> None:
    found = check([draft("Port 9000.", (n, "Port number: 9000"), (3, "Port number: 9000"))], PASSAGES)
    assert [one.n for one in found.citations] == [3]
    assert check([draft("Port 9000.", (n, "Port number: 9000"))], PASSAGES).citations == ()


def test_one_verified_quote_is_enough_and_each_is_listed_once() -> None:
    drafts = [
        draft("Port 9000.", (3, "Port number: 9000"), (1, "Port number: 9000")),
        draft("Again 9000.", (3, "port  NUMBER: 9000")),
    ]
    found = check(drafts, PASSAGES)
    assert found.text == "Port 9000. [3] Again 9000. [3]"
    assert [(one.n, one.verified) for one in found.citations] == [(3, True), (1, False)]
    assert [claim.citations for claim in found.claims] == [(3, 1), (3,)]
    strict = check(drafts, PASSAGES, strict=True)
    assert [one.n for one in strict.citations] == [3]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Draft,
            st.text("ab [1]2.\n", max_size=20),
            st.lists(st.builds(Cited, st.integers(-2, 6), st.none() | st.text("Port: 9deltsA", max_size=8))).map(tuple),
            st.just(" "),
            st.booleans(),
        )
    ),
    st.booleans(),
)
def test_whatever_the_model_says_citations_are_of_its_passages_and_spans_are_true(
    drafts: list[Draft], strict: bool
) -> None:
    found = check(drafts, PASSAGES, strict)
    for one in found.citations:
        hit = PASSAGES[one.n - 1]
        assert one.chunk_id == hit.chunk_id
        assert one.verified == (one.span is not None)
        if one.span:
            assert hit.text[slice(*one.span)] == one.quote
    assert all(1 <= n <= len(PASSAGES) for n in cited_numbers(found.text))
    assert all(claim.verified for claim in found.claims) or not strict


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
