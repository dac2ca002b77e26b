"""The measures of a ranking, and what two evaluations of the same questions differ by."""

from __future__ import annotations

import math
import random

import pytest

from tasks.evaluation.compare import Change, better, changes, differences, worse
from tasks.evaluation.evaluate import Evaluation, Outcome, distinct
from tasks.evaluation.metrics import mean, measures, rank
from tasks.evaluation.report import as_markdown, rank_changes

LETTERS = [f"{letter}.md" for letter in "abcdefghij"]


def outcome(place: int | None, question: str = "?", relevant: tuple[str, ...] = ("right.md",)) -> Outcome:
    found = list(LETTERS)
    if place:
        found.insert(place - 1, "right.md")
    found = found[:10]
    figures = measures([found], [relevant])[0] if relevant else {}
    return Outcome(question, relevant, tuple(found), rank(found, relevant), 0.5, place is None, 0.01, figures)


def evaluation(*places: int | None) -> Evaluation:
    return Evaluation("docs_g0001", "dense", tuple(outcome(place, f"q{n}") for n, place in enumerate(places)))


def test_measures_by_hand() -> None:
    (one,) = measures([["x", "a", "y", "b"]], [["a", "b"]])
    dcg, ideal = 1 / math.log2(3) + 1 / math.log2(5), 1 + 1 / math.log2(3)
    assert one["recall@1"] == 0
    assert one["recall@5"] == one["recall@10"] == 1
    assert one["mrr"] == 0.5
    assert one["ndcg@10"] == pytest.approx(dcg / ideal)


def test_a_question_that_finds_nothing_counts_as_nothing() -> None:
    found = measures([["a"], [], ["x"]], [["a"], ["b"], ["c"]])
    assert [one["mrr"] for one in found] == [1, 0, 0]
    assert mean(found)["recall@10"] == pytest.approx(1 / 3)
    assert mean([]) == dict.fromkeys(("recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"), 0.0)


def test_what_lies_beyond_ten_objects_is_not_found() -> None:
    keys = distinct(["a", "a", *(str(n) for n in range(20)), "right"])
    assert len(keys) == 10
    (one,) = measures([[*map(str, range(10)), "right"]], [["right"]])
    assert one["recall@10"] == one["mrr"] == 0


def test_an_evaluation_in_numbers() -> None:
    it = Evaluation("c", "dense", (outcome(1), outcome(4), outcome(None), outcome(None, relevant=())))
    assert it.measures["recall@1"] == pytest.approx(1 / 3, abs=1e-4)
    assert it.measures["recall@5"] == pytest.approx(2 / 3, abs=1e-4)
    assert it.measures["mrr"] == pytest.approx((1 + 1 / 4) / 3, abs=1e-4)
    assert it.latency == {"p50_ms": 10.0, "p95_ms": 10.0}
    assert it.abstention == {"answerable": pytest.approx(1 / 3, abs=1e-4), "unanswerable": 1.0}
    assert evaluation(1).abstention["unanswerable"] is None


def test_a_difference_that_chance_explains_has_an_interval_around_nothing() -> None:
    chance = random.Random(1)
    places = [chance.randint(1, 10) for _ in range(60)]
    shuffled = chance.sample(places, len(places))
    noise = differences(evaluation(*shuffled), evaluation(*places))["mrr"]
    assert noise.low < 0 < noise.high
    real = differences(evaluation(*[1] * 60), evaluation(*places))["mrr"]
    assert 0 < real.low < real.difference < real.high
    assert differences(evaluation(1, 2), evaluation(1, 2))["ndcg@10"].high == 0


def test_questions_are_sorted_by_the_places_they_won_or_lost() -> None:
    found = changes(evaluation(1, 5, None, 2), evaluation(3, 1, 10, 2))
    assert found == [Change("q0", 3, 1), Change("q1", 1, 5), Change("q2", 10, None), Change("q3", 2, 2)]
    assert [one.question for one in better(found)] == ["q0"]
    assert [one.question for one in worse(found)] == ["q1", "q2"]


def test_the_plot_is_a_picture_that_markdown_holds() -> None:
    picture = rank_changes(changes(evaluation(1, 5, None), evaluation(3, 1, 10)), "docs_g0001", "docs_g0002")
    assert picture.lstrip().startswith(b"<?xml")
    assert b"</svg>" in picture
    assert as_markdown(picture, "places").startswith("![places](data:image/svg+xml;base64,")
