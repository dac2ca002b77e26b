"""`lockstep questions` over what a real service was asked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from tests.serve.conftest import QUESTION, Index
from tests.serve.test_history import rows

UNANSWERABLE = "Which composer wrote the Moonlight Sonata?"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(name: str, *arguments: str) -> Any:
        monkeypatch.setattr("deployments.cli.session.open_session", lambda *_, **__: SimpleNamespace(pipeline=name))
        return CliRunner().invoke(app, ["questions", *arguments])

    return run


def test_gaps_are_listed_and_become_golden_questions(
    client: httpx.Client, index: Index, run: Any, tmp_path: Path
) -> None:
    name = index.make(name="listed-questions", record_questions=True, min_score=0.25)
    good, bad, none = (
        client.post("/ask", json={"question": text, "pipeline": name}).json()
        for text in (QUESTION, "How do I start the pump?", UNANSWERABLE)
    )
    assert none["mode"] == "abstained"
    verdict = {"id": bad["id"], "verdict": "down", "reason": "It is another pump.", "pipeline": name}
    assert client.post("/feedback", json=verdict).status_code == 200
    rows(name, lambda found: len(found) == 3)

    told = json.loads(run(name, "--json").stdout)
    assert [row["id"] for row in told["questions"]] == [none["id"], bad["id"], good["id"]]
    assert told["questions"][2]["cited"] == ["manuals/pump.md"]
    told = json.loads(run(name, "--json", "--unanswered", "--since", "1h").stdout)
    assert [(row["question"], row["mode"], row["verdict"], row["reason"]) for row in told["questions"]] == [
        (UNANSWERABLE, "abstained", None, None),
        ("How do I start the pump?", "extractive", "down", "It is another pump."),
    ]
    assert run(name, "--since", "0m").stdout == ""

    shown = run(name, "--unanswered", "--limit", "1")
    assert "Which composer wrote the" in shown.stdout
    assert "start the pump" not in shown.stdout
    assert "--limit" in shown.stderr

    path = tmp_path / "golden.jsonl"
    written = run(name, "--export", str(path))
    assert "3 golden questions" in written.stderr
    assert "in 2 of them" in written.stderr
    assert [json.loads(line)["relevant"] for line in path.read_text().splitlines()] == [None, None, ["manuals/pump.md"]]


def test_without_texts_hashes_are_shown_and_the_setting_is_named(
    client: httpx.Client, index: Index, run: Any, tmp_path: Path
) -> None:
    name = index.make(name="hashed-questions")
    client.post("/ask", json={"question": QUESTION, "pipeline": name})
    (row,) = rows(name, lambda found: len(found) == 1)
    shown = run(name)
    assert f"#{row['question_hash'][:12]}" in shown.stdout
    assert "LOCKSTEP_RECORD_QUESTIONS" in shown.stderr
    refused = run(name, "--export", str(tmp_path / "golden.jsonl"))
    assert "record_questions" in str(refused.exception)
