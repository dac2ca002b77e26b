"""What was asked, as golden questions: nothing is claimed that nobody knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.questions import NO_TEXT, age_ms, golden_lines, shown, write_golden
from tasks.errors import MisuseError
from tasks.evaluation.golden import Golden, parse_golden


def row(question: str | None = "Which pump?", **more: Any) -> dict[str, Any]:
    usual = {
        "id": "1", "at": 1_700_000_000_000, "tenant": "", "route": "/ask", "question_hash": f"hash of {question}",
        "question": question, "collection": "docs_g0001", "mode": "generated", "verdict": None, "reason": None,
        "cited": ["pump.md"],
    }  # fmt: skip
    return {**usual, **more}


@pytest.mark.parametrize(
    ("text", "ms"), [("30m", 1_800_000), ("12h", 43_200_000), ("7d", 604_800_000), ("2w", 1_209_600_000)]
)
def test_an_age_is_a_number_and_a_unit(text: str, ms: int) -> None:
    assert age_ms(text) == ms


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "7 days", "1y", ""])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(MisuseError, match="7d"):
        age_ms(text)


def test_what_an_answer_cited_is_relevant() -> None:
    assert golden_lines([row(verdict="up")]) == [{"question": "Which pump?", "relevant": ["pump.md"]}]
    assert golden_lines([row(tenant="acme")])[0]["tenant"] == "acme"


@pytest.mark.parametrize(
    "doubt", [{"mode": "abstained", "cited": []}, {"verdict": "down", "reason": "Wrong pump."}, {"cited": None}]
)
def test_what_nobody_knows_is_left_open_and_refused_until_somebody_fills_it_in(doubt: dict[str, Any]) -> None:
    lines = golden_lines([row("Which filter?", **doubt), row()])
    assert lines[0]["relevant"] is None
    assert lines[0].get("reason") == doubt.get("reason")
    with pytest.raises(MisuseError, match="line 1"):
        parse_golden("\n".join(map(json.dumps, lines)), "golden.jsonl")
    lines[0]["relevant"] = []
    found = parse_golden("\n".join(map(json.dumps, lines)), "golden.jsonl")
    assert found == [Golden("Which filter?", ()), Golden("Which pump?", ("pump.md",))]


def test_a_question_counts_once_for_each_tenant_as_it_was_answered_last() -> None:
    rows = [row(verdict="down"), row(), row(tenant="acme"), row(None)]
    assert [(line.get("tenant"), line["relevant"]) for line in golden_lines(rows)] == [
        (None, None),
        ("acme", ["pump.md"]),
    ]


def test_a_file_is_never_overwritten_and_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    with pytest.raises(MisuseError, match="LOCKSTEP_RECORD_QUESTIONS=true"):
        write_golden(path, golden_lines([row(None)]))
    assert not path.exists()
    write_golden(path, golden_lines([row()]))
    with pytest.raises(MisuseError, match="Name a new file"):
        write_golden(path, golden_lines([row("Which filter?")]))
    assert parse_golden(path.read_text(), "there") == [Golden("Which pump?", ("pump.md",))]
    with pytest.raises(MisuseError, match="cannot be written"):
        write_golden(tmp_path / "no-folder" / "golden.jsonl", golden_lines([row()]))


def test_times_are_told_in_utc() -> None:
    assert shown(row())["at"] == "2023-11-14T22:13:20+00:00"
    assert "record_questions" in NO_TEXT
