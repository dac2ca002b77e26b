"""Which questions a canary gets, and when it has to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blocks.settings import Settings
from tasks.errors import MisuseError
from tasks.generations.canary import QuestionStats, breaches, checked_steps
from tasks.ledger.canary import Canary

CANARY = Canary("docs", "docs_g0002", "docs_g0001", (10, 50, 100), 0, 900.0, 0)
QUESTIONS = [f"question {number}" for number in range(2000)]
WELL = QuestionStats(questions=100, errors=0.0, p95=0.2, abstention=0.1, best=0.6)


def served(step: int) -> set[str]:
    canary = replace(CANARY, step=step)
    return {one for one in QUESTIONS if canary.serves(one) == "docs_g0002"}


def test_a_share_of_the_questions_comes_to_it_and_who_came_stays() -> None:
    assert 0.07 < len(served(0)) / len(QUESTIONS) < 0.13
    assert 0.45 < len(served(1)) / len(QUESTIONS) < 0.55
    assert served(0) < served(1) < served(2) == set(QUESTIONS)
    assert served(0) == served(0)


def test_a_share_of_one_percent_is_one_in_a_hundred() -> None:
    canary = replace(CANARY, steps=(1, 99))
    asked = [f"question {number}" for number in range(20_000)]
    assert 150 < sum(canary.serves(one) == "docs_g0002" for one in asked) < 250
    canary = replace(canary, step=1)
    assert 150 < sum(canary.serves(one) == "docs_g0001" for one in asked) < 250


@pytest.mark.parametrize("steps", [[], [0, 10], [10, 10], [50, 10], [10, 101], [-1], [100]])
def test_steps_are_percentages_that_rise(steps: list[int]) -> None:
    with pytest.raises(MisuseError, match="10,50,100"):
        checked_steps(steps)
    assert checked_steps([99, 100]) == (99, 100)


def test_as_good_as_live_is_good_enough() -> None:
    assert breaches(WELL, WELL, Settings()) == []
    assert breaches(replace(WELL, p95=0.29, abstention=0.19, best=0.51), WELL, Settings()) == []


def test_each_figure_is_compared_with_the_live_one_and_may_be_just_as_far_from_it() -> None:
    allowed = Settings(canary_errors=0.25, canary_latency=2.0, canary_abstention=0.25, canary_score=0.25)
    live = QuestionStats(questions=100, errors=0.5, p95=0.5, abstention=0.5, best=0.5)
    just = QuestionStats(questions=allowed.canary_questions, errors=0.75, p95=1.0, abstention=0.75, best=0.25)
    assert breaches(just, live, allowed) == []
    for worse in ({"errors": 0.76}, {"p95": 1.01}, {"abstention": 0.76}, {"best": 0.24}):
        assert len(breaches(replace(just, **worse), live, allowed)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        (replace(WELL, errors=0.02), "2.0% of its questions failed"),
        (replace(WELL, p95=0.31), "p95 is 0.310 s, live 0.200 s"),
        (replace(WELL, abstention=0.21), "abstained from 21.0% of its questions"),
        (replace(WELL, best=0.49), "mean best score is 0.490"),
        (replace(WELL, questions=19), "only 19 questions"),
    ],
)
def test_each_figure_ends_it(worse: QuestionStats, said: str) -> None:
    (breach,) = breaches(worse, WELL, Settings())
    assert said in breach


def test_without_questions_to_live_there_is_nothing_to_compare_with() -> None:
    nobody, anything = QuestionStats(0, 0.0, 0.0, 0.0, 0.0), Settings(canary_questions=0)
    assert "nothing to compare with" in breaches(WELL, nobody, Settings())[0]
    # Who asks for no questions is content with errors of its own.
    assert breaches(WELL, nobody, anything) == []
    assert len(breaches(replace(WELL, errors=0.5), nobody, anything)) == 1
    assert breaches(replace(WELL, questions=0), WELL, anything) == []
