"""Answers made of the sentences nearest to the question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.answers.extractive import CHUNKS_READ, candidates, choose, extract
from tasks.models import Hit


def hit(text: str, n: int = 1, heading: str = "Guide", page: int | None = None) -> Hit:
    return Hit(f"chunk-{n}", f"key-{n}.md", 0.5, text, heading, page)


def unit(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


QUESTION = unit(1, 0, 0)
NEAR, FAR, OTHER = unit(1, 0.1, 0), unit(0.1, 1, 0), unit(0.9, 0, 0.5)


@pytest.mark.parametrize(
    ("vectors", "most", "expected"),
    [
        ([NEAR], 3, [0]),
        ([FAR, NEAR], 3, [1]),
        ([FAR, OTHER, NEAR], 3, [1, 2]),
        ([FAR, OTHER, NEAR], 1, [2]),
        ([NEAR, NEAR, NEAR], 3, [0]),
        ([NEAR, OTHER, unit(0.9, 0, -0.5)], 2, [0, 1]),
        ([FAR], 3, [0]),
        ([unit(-1, 0.2, 0), unit(-0.1, 1, 0)], 3, [1]),
    ],
)
def test_the_nearest_are_chosen_as_they_stand_and_none_twice(
    vectors: list[NDArray[np.float32]], most: int, expected: list[int]
) -> None:
    assert choose(QUESTION, np.stack(vectors), most) == expected


def test_statements_are_offered_before_headings_and_questions() -> None:
    hits = [hit("How are deletes handled?\nDeletes are recorded first.\nA heading without a stop", 1)]
    assert [sentence for _, sentence in candidates(hits)] == ["Deletes are recorded first."]
    assert [sentence for _, sentence in candidates([hit("How are deletes handled?")])] == ["How are deletes handled?"]


def test_only_the_best_chunks_are_read() -> None:
    hits = [hit(f"This is the statement number {n}.", n) for n in range(1, 10)]
    assert [one.chunk_id for one, _ in candidates(hits)] == [f"chunk-{n}" for n in range(1, CHUNKS_READ + 1)]


def words_as_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    words = ("deletes", "recorded", "vectors", "milvus", "alias")
    return np.stack([unit(*(1.0 * (word in text.lower()) for word in words), 0.1) for text in texts])


def test_the_answer_is_verbatim_and_each_sentence_cited_in_order() -> None:
    hits = [
        hit("The alias moves.\nDeletes are recorded before   anything else happens.", 1, "Deletes", 3),
        hit("Vectors live in Milvus. Deletes are confirmed by Milvus.", 2),
    ]
    (question,) = words_as_vectors(["deletes recorded milvus"])
    answer, citations = extract(hits, question, words_as_vectors, 2)
    assert [citation.n for citation in citations] == [1, 2]
    for citation in citations:
        source = next(one for one in hits if one.chunk_id == citation.chunk_id)
        assert citation.quote in source.text
        assert (citation.key, citation.heading, citation.page) == (source.key, source.heading, source.page)
        assert f"{' '.join(citation.quote.split())} [{citation.n}]" in answer
    assert answer.count("[") == 2


def test_no_more_sentences_than_asked_for() -> None:
    hits = [hit("Deletes are recorded. Vectors of deletes are gone. The alias of deletes moves.")]
    (question,) = words_as_vectors(["deletes"])
    for most in (1, 2, 3):
        assert len(extract(hits, question, words_as_vectors, most)[1]) <= most


def test_a_chunk_too_short_for_a_sentence_is_quoted_whole() -> None:
    (question,) = words_as_vectors(["deletes"])
    answer, citations = extract([hit("Port: 9000")], question, words_as_vectors, 3)
    assert answer == "Port: 9000 [1]"
    assert citations[0].quote == "Port: 9000"
