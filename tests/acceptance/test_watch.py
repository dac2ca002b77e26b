"""What changes in the bucket is answerable within seconds, and the history tells of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import QUESTION, TEXT, Stack, api, eventually, found_keys, sync_runs

SOON = 60.0
"""A test asks whether it happens; how soon is what `benchmarks.freshness` measures."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("home"), LOCKSTEP_WATCH_POLL_SECONDS="0.2")
    try:
        stack.run("up")
        stack.run("sync")
        yield stack
    finally:
        stack.run("down")
        stack.close()


def watcher(stack: Stack) -> dict[str, Any]:
    parts = json.loads(stack.run("status", "--json").stdout)["parts"]
    return dict(next(part for part in parts if part["name"] == "watcher"))


def put(bucket: Any, key: str, text: str = TEXT) -> None:
    bucket.put_object(Bucket="documents", Key=key, Body=text.encode())


def of_watcher(stack: Stack) -> list[dict[str, Any]]:
    return [run for run in sync_runs(stack) if "watcher:docs" in run["tags"] and "keys" in run["parameters"]]


def test_a_file_is_found_soon_after_it_came_and_not_after_it_went(stack: Stack, bucket: Any) -> None:
    put(bucket, "hours.md")
    eventually(lambda: "hours.md" in found_keys(stack), SOON)
    assert watcher(stack)["state"] == "up"
    run = of_watcher(stack)[0]
    assert run["parameters"] == {"pipeline": "docs", "keys": ["hours.md"]}
    eventually(lambda: of_watcher(stack)[0]["state_type"] == "COMPLETED", SOON)
    assert of_watcher(stack)[0]["name"] == "sync docs_g0001: +1 ~0 -0 of 1 keys"
    bucket.delete_object(Bucket="documents", Key="hours.md")
    eventually(lambda: "hours.md" not in found_keys(stack), SOON)
    assert "hours.md" not in stack.run("ask", QUESTION, "--json").stdout
    assert stack.json("audit")["consistent"]


def test_a_change_leaves_ten_rows_in_the_history_at_the_most(stack: Stack, bucket: Any) -> None:
    put(bucket, "rows.md")
    eventually(lambda: "rows.md" in found_keys(stack), SOON)
    eventually(lambda: of_watcher(stack)[0]["state_type"] == "COMPLETED", SOON)
    run = of_watcher(stack)[0]["id"]
    of_run = {"flow_run_id": {"any_": [run]}}

    def rows() -> dict[str, int]:
        events = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}, "occurred": {}}}
        return {
            "runs": 1,
            "task runs": len(api(stack, "POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})),
            "states": len(api(stack, "GET", f"/flow_run_states/?flow_run_id={run}")),
            "log lines": len(api(stack, "POST", "/logs/filter", {"logs": of_run})),
            "artifacts": len(api(stack, "POST", "/artifacts/filter", {"artifacts": of_run})),
            "events": len(api(stack, "POST", "/events/filter", events)["events"]),
        }

    eventually(lambda: rows()["events"] >= 3 and rows()["log lines"] >= 3, SOON)
    assert sum(rows().values()) <= 10, rows()


def test_a_watcher_that_was_killed_is_replaced_and_nothing_is_lost(stack: Stack, bucket: Any) -> None:
    before = watcher(stack)
    os.kill(before["pid"], signal.SIGKILL)
    deployment = api(stack, "GET", "/deployments/name/sync/docs")
    left = api(
        stack, "POST", f"/deployments/{deployment['id']}/create_flow_run",
        {"state": {"type": "RUNNING", "name": "Running"}, "tags": ["watcher:docs"], "parameters": {"pipeline": "docs"}},
    )  # fmt: skip
    put(bucket, "while-nobody-watched.md")
    assert stack.run("status", code=1)
    stack.run("up")
    # The lease of the one that was killed ends by itself.
    eventually(lambda: "while-nobody-watched.md" in found_keys(stack), 150)
    eventually(lambda: api(stack, "GET", f"/flow_runs/{left['id']}")["state_type"] == "CRASHED", SOON)
    put(bucket, "afterwards.md")
    eventually(lambda: "afterwards.md" in found_keys(stack), SOON)
    assert watcher(stack)["pid"] != before["pid"]
    assert stack.json("audit")["consistent"]


@pytest.mark.long
def test_prefect_is_killed_and_comes_back(stack: Stack, bucket: Any) -> None:
    parts = json.loads(stack.run("status", "--json").stdout)["parts"]
    os.kill(next(part["pid"] for part in parts if part["name"] == "prefect"), signal.SIGKILL)
    put(bucket, "without-prefect.md")
    stack.run("up")
    eventually(lambda: "without-prefect.md" in found_keys(stack), 150)
    assert stack.json("audit")["consistent"]


def test_a_second_watcher_stands_by(stack: Stack, bucket: Any) -> None:
    second = stack.start("watch")
    try:
        runs = len(of_watcher(stack))
        put(bucket, "watched-twice.md")
        eventually(lambda: "watched-twice.md" in found_keys(stack), SOON)
        put(bucket, "watched-twice.md", TEXT + "\nIt changed.\n")
        eventually(lambda: len(of_watcher(stack)) >= runs + 2, SOON)
        assert stack.json("audit")["consistent"]
        assert len(of_watcher(stack)) == runs + 2, "one run for each change"
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0


def test_it_says_what_it_does_in_its_log(stack: Stack) -> None:
    log = (Path(stack.env["LOCKSTEP_HOME"]) / "logs" / "watcher.log").read_text()
    assert "watching s3://documents/ for 'docs'" in log
    assert "Traceback" not in log
