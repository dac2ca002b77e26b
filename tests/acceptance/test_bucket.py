"""A bucket that changes, the worker that follows it, and what the command says of both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import (
    LOCKSTEP,
    QUESTION,
    TEXT,
    Stack,
    api,
    emit,
    eventually,
    found_keys,
    schedule,
    sync_runs,
    unattended_syncs_paused,
)


def test_an_object_is_answerable_until_it_is_deleted(stack: Stack, bucket: Any) -> None:
    nothing = stack.run("ask", QUESTION, code=2, COLLECTION_NAME="never_synced")
    assert "no pipeline 'never-synced'. GET /v1/models lists the pipelines; `lockstep up`" in nothing.stderr

    bucket.put_object(Bucket="documents", Key="harbour/gates.md", Body=TEXT.encode())
    emit(stack, "created", "harbour/gates.md")

    def synced() -> bool:
        done = subprocess.run(
            [LOCKSTEP, "search", QUESTION, "--json"], env=stack.env, capture_output=True, text=True, check=False
        )
        hits = json.loads(done.stdout)["hits"] if done.returncode == 0 else []
        return "harbour/gates.md" in {hit["key"] for hit in hits}

    eventually(synced)
    started_by_event = [run for run in sync_runs(stack) if (run["created_by"] or {}).get("type") == "AUTOMATION"]
    assert started_by_event
    answer = stack.json("ask", QUESTION)
    assert "six in the morning" in answer["answer"]
    assert answer["mode"] == "extractive"
    assert answer["citations"][0].keys() == {
        "n", "key", "heading", "page", "quote", "verified", "version", "span", "chunk_id",
    }  # fmt: skip
    assert answer["citations"][0]["key"] == "harbour/gates.md"
    assert answer.keys() == {
        "answer", "mode", "citations", "collection", "flow_run_id", "seconds", "tokens", "claims", "cached", "notes",
    }  # fmt: skip
    assert stack.json("search", QUESTION, "--filter", "prefix=harbour/ and page=0")["hits"]
    assert not stack.json("search", QUESTION, "--filter", "not prefix=harbour/")["hits"]
    assert "the filter is malformed" in stack.run("ask", QUESTION, "--filter", "prefix=", code=2).stderr
    assert "no tenants" in stack.run("search", QUESTION, "--tenant", "acme", code=2).stderr

    unchanged = stack.json("sync")
    assert unchanged["unchanged"] >= 1
    assert (unchanged["new"], unchanged["changed"], unchanged["chunks_embedded"]) == (0, 0, 0)
    assert unchanged.keys() == {
        "collection", "new", "changed", "deleted", "unchanged", "quarantined", "chunks_embedded", "chunks_reused",
        "chunks_deleted", "seconds", "flow_run_id",
    }  # fmt: skip

    bucket.delete_object(Bucket="documents", Key="harbour/gates.md")
    emit(stack, "deleted", "harbour/gates.md")
    eventually(lambda: "harbour/gates.md" not in found_keys(stack))


def test_up_leads_to_planned_syncs_and_status_says_when_it_does_not(stack: Stack) -> None:
    eventually(lambda: "next sync of docs at" in schedule(stack)[1], 30)
    planned = [run for run in sync_runs(stack) if run["state_type"] == "SCHEDULED"]
    assert planned
    assert all(run["auto_scheduled"] for run in planned)

    deployment = api(stack, "GET", "/deployments/name/sync/docs")["id"]
    api(stack, "PATCH", f"/deployments/{deployment}", {"paused": True})
    assert "paused" in schedule(stack)[1]
    api(stack, "PATCH", f"/deployments/{deployment}", {"paused": False})

    flow = api(stack, "GET", "/deployments/name/sync/docs")["flow_id"]
    over = {"schedule": {"rrule": "FREQ=DAILY;UNTIL=20200101T000000Z"}, "active": True}
    api(stack, "POST", "/deployments/", {"name": "over", "flow_id": flow, "schedules": [over]})
    eventually(lambda: schedule(stack, COLLECTION_NAME="over")[0] == "down", 30)
    assert "no run of sync/over is planned" in schedule(stack, COLLECTION_NAME="over")[1]
    assert "run `lockstep up`" in schedule(stack, COLLECTION_NAME="nowhere")[1]


def test_up_again_starts_nothing_and_deploys_nothing(stack: Stack) -> None:
    before = {part["name"]: part["pid"] for part in stack.json("status")["parts"]}
    again = stack.run("up")
    assert "deployments: unchanged" in again.stderr
    assert {part["name"]: part["pid"] for part in stack.json("status")["parts"]} == before


def test_up_registers_the_automations_and_the_workers_runs_are_theirs(stack: Stack) -> None:
    """A heartbeat of a run that the worker started has the tags that the automation for silent runs looks for."""
    listed = stack.json("automations", "list")["automations"]
    assert [one["state"] for one in listed] == ["current"] * 4
    assert "automations: unchanged" in stack.run("automations", "apply").stderr
    found = api(stack, "POST", "/automations/filter", {})
    (silent,) = [one["trigger"] for one in found if one["name"] == "docs: a silent run has crashed"]
    wanted = {"filter": {"event": {"name": silent["after"]}}, "limit": 1}
    eventually(lambda: bool(api(stack, "POST", "/events/filter", wanted)["events"]))
    (beat,) = api(stack, "POST", "/events/filter", wanted)["events"]
    assert {one["prefect.resource.id"] for one in silent["match_related"]} <= {
        one["prefect.resource.id"] for one in beat["related"]
    }


def test_many_questions_in_one_process(stack: Stack, bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(
        Bucket="documents", Key="bridge.md", Body=b"# Bridge\n\nThe draw bridge is lifted at noon and lowered at one.\n"
    )
    bucket.put_object(Bucket="documents", Key="tea.md", Body=b"# Tea\n\nGreen tea is brewed at eighty degrees.\n")
    stack.run("sync")
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        '{"id": "a", "question": "When is the draw bridge lifted?"}\n\n{"id": 7, "question": "How hot is green tea?"}\n'
    )
    lines = [json.loads(line) for line in stack.run("search", "--queries-file", str(questions)).stdout.splitlines()]
    assert [(line["id"], line["hits"][0]["key"]) for line in lines] == [("a", "bridge.md"), ("7", "tea.md")]
    assert lines[0]["hits"][0].keys() == {"key", "chunk_id", "score", "text", "heading", "page"}
    questions.write_text('{"id": "a", "question": "ok"}\nnot json\n')
    assert "line 2" in stack.run("search", "--queries-file", str(questions), code=2).stderr


def test_a_mistyped_prefix_with_a_yes_changes_nothing(stack: Stack, bucket: Any) -> None:
    for number in range(4):
        bucket.put_object(Bucket="documents", Key=f"typo/{number}.md", Body=f"{TEXT} {number}".encode())
    stack.json("sync")
    stopped = stack.run("sync", "--accept-source", code=1, PREFIX="tpyo/").stderr
    assert "lockstep sync --accept-source --allow-deletions" in stopped
    assert "again, as before" in stopped
    after = stack.json("sync")
    assert (after["new"], after["deleted"], after["chunks_embedded"]) == (0, 0, 0)


@pytest.fixture
def paused(stack: Stack) -> Iterator[None]:
    with unattended_syncs_paused(stack):
        yield


def test_an_audit_and_the_quarantine(stack: Stack, bucket: Any, paused: None) -> None:
    bucket.put_object(Bucket="documents", Key="manual.txt", Body=b"The manual says that the pump runs at noon.")
    stack.run("sync")
    bucket.put_object(Bucket="documents", Key="manual.txt", Body=b"\x00\x01\x02\x03" * 50)
    unsynced = json.loads(stack.run("audit", "--json", code=1).stdout)
    assert (unsynced["consistent"], unsynced["stale"]) == (False, ["manual.txt"])
    assert stack.json("sync")["quarantined"] == 1
    found = stack.json("audit")
    assert found.keys() == {
        "consistent", "objects", "chunks", "missing", "orphaned", "stale", "duplicated", "quarantined"
    }  # fmt: skip
    assert (found["consistent"], found["quarantined"]) == (True, ["manual.txt"])

    (row,) = stack.json("quarantine")["quarantined"]
    assert row.keys() == {"key", "reason", "attempts", "since", "older_version_answers"}
    assert (row["key"], row["attempts"], row["older_version_answers"]) == ("manual.txt", 1, True)
    answer = stack.json("ask", "When does the pump run?")
    assert answer["citations"][0]["outdated"] is True

    assert "no-such-key" in stack.run("quarantine", "retry", "no-such-key", code=2).stderr
    assert stack.json("quarantine", "retry", "manual.txt")["retried"] == ["manual.txt"]
    assert stack.json("quarantine")["quarantined"] == []
    assert stack.json("sync")["quarantined"] == 1
    assert stack.json("quarantine", "list")["quarantined"][0]["attempts"] == 2
    bucket.delete_object(Bucket="documents", Key="manual.txt")
    assert stack.json("audit", "--repair")["consistent"] is True
    assert stack.json("quarantine")["quarantined"] == []
