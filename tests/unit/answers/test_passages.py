"""Chunks become passages: copies go, neighbours of a section are joined, and each citation finds its chunk."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.settings import Settings
from tasks.answers.extractive import quoted
from tasks.answers.passages import estimated, join, joined
from tasks.citations.drafts import Cited, Draft
from tasks.citations.verify import check
from tasks.errors import GoneError
from tasks.models import Hit
from tasks.retrieval.ranking import without_copies


def chunk(index: int, text: str = "", key: str = "a.md", heading: str = "Guide", etag: str = "1") -> Hit:
    return Hit(f"{key}-{heading}-{index}", key, 0.9, text or f"Text {index}.", heading, index + 1, "", index, etag=etag)


def texts(passages: Any) -> list[str]:
    return [one.text for one in passages]


def test_what_a_better_hit_says_already_is_left_out() -> None:
    said = "The filter is replaced every four hundred hours of work, or when the pressure falls below two bars."
    others = [
        chunk(1, said),
        chunk(2, said.upper(), key="copy.md"),
        chunk(3, said + " Really."),
        chunk(4, "The filter is cleaned each week."),
        chunk(5, said.replace("four hundred", "two hundred")),
    ]
    assert [hit.chunk_index for hit in without_copies(others, 0.9)] == [1, 4, 5]
    assert [hit.chunk_index for hit in without_copies(others, 1.0)] == [1, 3, 4, 5]
    assert without_copies([], 0.9) == []


def test_short_texts_are_compared_whole() -> None:
    said = [chunk(1, "Yes."), chunk(2, "yes"), chunk(3, "No."), chunk(4, "!")]
    assert texts(without_copies(said, 0.9)) == ["Yes.", "No.", "!"]


def test_neighbours_of_a_section_become_one_passage() -> None:
    found = [chunk(5), chunk(9, heading="Other"), chunk(2)]
    near = [chunk(4), chunk(6), chunk(8), chunk(1), chunk(3), chunk(6, key="b.md"), chunk(4, etag="2")]
    passages = joined(found, near)
    assert texts(passages) == ["Text 1.\nText 2.\nText 3.\nText 4.\nText 5.\nText 6.", "Text 9."]
    assert [part.chunk_id for part in passages[0].parts] == [f"a.md-Guide-{n}" for n in range(1, 7)]
    assert passages[0].score == found[0].score
    assert passages[1] == found[1]


def test_hits_that_stand_side_by_side_are_one_passage_at_the_place_of_the_better() -> None:
    passages = joined([chunk(7, key="b.md"), chunk(3), chunk(1), chunk(2)])
    assert texts(passages) == ["Text 7.", "Text 1.\nText 2.\nText 3."]
    assert passages[1].chunk_id == "a.md-Guide-3"


def test_what_is_around_the_best_comes_first_and_only_what_fits() -> None:
    found = [chunk(5, "b" * 30), chunk(15, "c" * 30)]
    near = [chunk(4, "x" * 30), chunk(6, "y" * 30), chunk(14, "z" * 30)]
    room = sum(estimated(hit.text) for hit in found)
    assert texts(joined(found, near, room)) == ["b" * 30, "c" * 30]
    assert texts(joined(found, near, room + 10)) == ["x" * 30 + "\n" + "b" * 30, "c" * 30]
    assert texts(joined(found, near, room + 30))[1] == "z" * 30 + "\n" + "c" * 30
    # A neighbour of a neighbour that did not fit is left out with it: a passage has no holes.
    far = [chunk(7, "q"), chunk(6, "y" * 300)]
    assert texts(joined([chunk(5)], far, estimated("Text 5.") + 5)) == ["Text 5."]


@pytest.mark.parametrize(
    ("quote", "index", "span"),
    [
        ("This is text 5.", 5, (0, 15)),
        ("is text 6", 6, (5, 14)),
        ("4. This is text 5", 5, (0, 14)),
        ("This is text 4. This", 4, (0, 15)),
    ],
)
def test_a_quote_is_cited_from_the_chunk_that_it_stands_in(quote: str, index: int, span: tuple[int, int]) -> None:
    before, found, after = (chunk(n, f"This is text {n}.") for n in (4, 5, 6))
    (passage,) = joined([found], [before, after])
    (made,) = check([Draft("It is so.", (Cited(1, quote),))], [passage]).citations
    assert (made.verified, made.chunk_id, made.page, made.span) == (True, f"a.md-Guide-{index}", index + 1, span)
    assert made.quote == f"This is text {index}."[slice(*span)]


def test_an_extracted_sentence_leads_to_its_chunk() -> None:
    (passage,) = joined([chunk(5)], [chunk(4), chunk(6)])
    made = quoted(1, passage, "Text 6.")
    assert (made.chunk_id, made.span, made.quote) == ("a.md-Guide-6", (0, 7), "Text 6.")


def test_without_milvus_the_hits_are_the_passages() -> None:
    class Gone:
        def neighbours(self, *_: Any) -> list[Hit]:
            raise GoneError("dropped")

    assert join.fn(Gone(), "docs_g0001", [chunk(2), chunk(1)], Settings()) == joined([chunk(2), chunk(1)])
