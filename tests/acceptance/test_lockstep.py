"""The whole thing from outside: the command, the worker, a bucket that changes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

LOCKSTEP = str(Path(sys.executable).parent / "lockstep")
OURS = ("LOCKSTEP_", "AWS_", "MILVUS_", "VLLM_", "PREFECT_", "LEDGER_", "EMBED_", "LLM_")
TEXT = "# Opening hours\n\nThe north gate of the harbour opens at six in the morning and closes at nine.\n"
QUESTION = "When does the north gate open?"

pytestmark = pytest.mark.timeout(600)
"""A command takes ten seconds to load, and some tests have a dozen."""


class Stack:
    """A running local stack and the command that drives it."""

    def __init__(self, home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.env = {**kept, "LOCKSTEP_HOME": str(home / "lockstep"), "HOME": str(home), "HF_HUB_OFFLINE": "1"}
        self.folder = home

    def run(self, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [LOCKSTEP, *arguments], env={**self.env, **variables}, cwd=self.folder, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([LOCKSTEP, *arguments], env=self.env, cwd=self.folder, **quiet)

    def json(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.run(*arguments, "--json").stdout))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("home"))
    try:
        stack.run("up")
        yield stack
    finally:
        stack.run("down")


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Any:
    state = json.loads((Path(stack.env["LOCKSTEP_HOME"]) / "state.json").read_text())
    return boto3.client(
        "s3",
        endpoint_url=state["records"]["s3"]["url"],
        aws_access_key_id=state["access_key"],
        aws_secret_access_key=state["secret_key"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def api(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Call the Prefect API of the stack."""
    state = json.loads((Path(stack.env["LOCKSTEP_HOME"]) / "state.json").read_text())
    password = base64.b64encode(state["prefect_auth"].encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {password}"}
    request = urllib.request.Request(f"{state['records']['prefect']['url']}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = answer.read()
    return json.loads(found) if found else None


def sync_runs(stack: Stack) -> list[dict[str, Any]]:
    """All runs of the sync deployment, the newest first."""
    deployment = api(stack, "GET", "/deployments/name/sync/docs")["id"]
    return list(api(stack, "POST", "/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}}))


def schedule(stack: Stack, **variables: str) -> tuple[str, str]:
    """What `status` says of the schedule: its state, and why."""
    done = subprocess.run(
        [LOCKSTEP, "status", "--json"], env={**stack.env, **variables}, cwd=stack.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    row = next(part for part in json.loads(done.stdout)["parts"] if part["name"] == "schedule")
    assert done.returncode == (row["state"] == "down")
    return row["state"], row["detail"]


def emit(stack: Stack, operation: str, key: str) -> None:
    """Tell Prefect what the bucket would: an object came or went."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"s3.object.{operation}",
        "resource": {"prefect.resource.id": f"s3://documents/{key}"},
        "payload": {},
    }
    api(stack, "POST", "/events", [event])


def eventually(happens: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"did not happen within {seconds:g} s"
        time.sleep(1)


def found_keys(stack: Stack) -> set[str]:
    return {hit["key"] for hit in stack.json("search", QUESTION, "--top-k", "10")["hits"]}


def test_an_object_is_answerable_until_it_is_deleted(stack: Stack, bucket: Any) -> None:
    nothing = stack.run("ask", QUESTION, code=2, COLLECTION_NAME="never_synced")
    assert "no pipeline 'never-synced': `lockstep up`" in nothing.stderr

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
    assert "cannot be read" in stack.run("ask", QUESTION, "--filter", "prefix=", code=2).stderr
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


def test_an_audit_and_the_quarantine(stack: Stack, bucket: Any) -> None:
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


def test_a_rebuild_and_the_way_back(stack: Stack, bucket: Any) -> None:
    bucket.put_object(Bucket="documents", Key="harbour.md", Body=TEXT.encode())
    first = stack.json("sync")["collection"]
    done = stack.json("rebuild", "--chunk-tokens", "100", "--index-type", "IVF_FLAT")
    assert (done["state"], done["promoted"]) == ("live", True)
    assert set(done) == {
        "collection", "state", "promoted", "chunks_embedded", "chunks_reused", "gates", "seconds", "flow_run_id",
    }  # fmt: skip
    assert {"name", "value", "bound", "passed"} == set(done["gates"][0])
    # The options stay in force for whoever syncs next, also after a command under another environment.
    assert stack.json("sync")["collection"] == done["collection"]
    assert json.loads(stack.run("sync", "--json", LOCKSTEP_TOP_K="5").stdout)["unchanged"] > 0
    assert stack.json("search", QUESTION)["hits"][0]["key"] == "harbour.md"
    rows = stack.json("generations")["generations"]
    assert [row["state"] for row in rows] == ["live", "retired"]
    assert any(line.startswith("chunk_tokens: 96 → 100") for line in rows[1]["differs"])
    back = stack.json("rollback")
    assert (back["collection"], back["before"]) == (first, done["collection"])
    assert stack.json("sync")["chunks_embedded"] == 0
    assert stack.json("collect-garbage") == {"dropped": []}
    assert "nlist" in stack.run("rebuild", "--index-params", '{"nlist": 3}', code=2).stderr
    assert "not ready" in stack.run("promote", "1", code=2).stderr
    # What an experiment set goes when its variable goes.
    assert "chunk_tokens" in stack.run("sync", code=2, LOCKSTEP_CHUNK_TOKENS="64").stderr
    assert stack.json("sync")["collection"] == first


def test_golden_questions_are_measured(stack: Stack, bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Bucket="documents", Key="harbour.md", Body=TEXT.encode())
    stack.json("sync")
    golden = tmp_path / "golden.jsonl"
    golden.write_text(json.dumps({"question": QUESTION, "relevant": ["harbour.md"]}))
    done = stack.json("evaluate", "--golden", str(golden))
    assert (done["questions"], done["mode"]) == (1, "hybrid")
    assert done["measures"] == {"recall@1": 1, "recall@5": 1, "recall@10": 1, "mrr": 1, "ndcg@10": 1}
    assert set(done["latency"]) == {"p50_ms", "p95_ms"}
    assert done["per_question"][0]["found"][0] == "harbour.md"
    both = stack.json("evaluate", "--golden", str(golden), "--against", "lexical")
    assert both["against"]["mode"] == "lexical"
    assert set(both["differences"]["mrr"]) == {"difference", "low", "high"}
    assert "recall@10" in stack.run("evaluate", "--golden", str(golden)).stdout
    golden.write_text('{"question": "Where?", "relevant": ["nowhere.md"]}')
    assert "'nowhere.md'" in stack.run("evaluate", "--golden", str(golden), code=2).stderr


def test_a_canary_is_seen_in_the_status(stack: Stack, bucket: Any) -> None:
    bucket.put_object(Bucket="documents", Key="harbour.md", Body=TEXT.encode())
    live = stack.json("sync")["collection"]
    made = stack.json("rebuild", "--chunk-tokens", "90", "--promote", "manual")["collection"]
    promotion = stack.start("promote", "--canary", "99", "--hold", "10m")
    try:
        eventually(lambda: stack.json("status")["canary"] is not None)
        canary = stack.json("status")["canary"]
        assert (canary["collection"], canary["live"], canary["share"]) == (made, live, 99)
        assert f"{made} answers 99% of the questions" in stack.run("status").stdout
        assert stack.json("ask", QUESTION, "--session", "somebody")["collection"] == made
        assert stack.json("rollback")["collection"] == live
        assert promotion.wait(60) == 1
    finally:
        promotion.kill()
    assert stack.json("status")["canary"] is None
    assert stack.json("ask", QUESTION)["collection"] == live


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (("nonsense",), {}, 2, "nonsense"),
        (("sync",), {"MILVUS_URL": "http://x"}, 2, "MILVUS_URI"),
        (("sync",), {"LOCKSTEP_CHUNK_TOKENS": "100"}, 2, "chunk_tokens: 96 → 100"),
        (("sync", "--pipeline", "nobody"), {}, 2, "nobody"),
        (("search",), {}, 2, "question"),
        (("quarantine", "retry"), {}, 2, "--all"),
        (("audit",), {"COLLECTION_NAME": "never_synced"}, 2, "lockstep up"),
        (("generations",), {"PREFIX": "gudies/"}, 0, "PREFIX (saved: none, here: gudies/)"),
        (("rebuild", "--index-type", "HSNW"), {}, 2, "AUTOINDEX, FLAT, HNSW"),
        (("rebuild", "--chunk-tokens", "3"), {}, 2, "--chunk-tokens"),
        (("rebuild", "--embed-model", "/nowhere"), {}, 1, "/nowhere"),
        (("rollback", "--to", "9"), {}, 2, "no generation 9"),
        (("evaluate",), {}, 2, "--golden"),
        (("evaluate", "--golden", "/nowhere.jsonl"), {}, 2, "/nowhere.jsonl"),
        (("evaluate", "--golden", "README.md", "--against", "sparse"), {}, 2, "--against sparse"),
        (("promote", "--canary", "10,x"), {}, 2, "10,50,100"),
        (("promote", "--canary", "10", "--hold", "soon"), {}, 2, "15m"),
        (("sync",), {"MILVUS_URI": "http://127.0.0.1:9", "COLLECTION_NAME": "nomilvus"}, 1, "MILVUS_URI"),
        (("sync",), {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, 1, "PREFECT_API_URL"),
        (("up",), {"VLLM_BASE_URL": "http://127.0.0.1:9/v1"}, 1, "but vllm"),
        (("sync",), {"LOCKSTEP_HOME": "/tmp/lockstep-never-started"}, 2, "lockstep up"),
    ],
)
def test_misuse_and_failures_say_what_to_do(
    stack: Stack, arguments: tuple[str, ...], variables: dict[str, str], code: int, words: str
) -> None:
    assert words in stack.run(*arguments, code=code, **variables).stderr


def test_nothing_is_written_outside_of_its_home(stack: Stack) -> None:
    left = {path.name for path in Path(stack.env["HOME"]).iterdir()} - {"lockstep"}
    assert left <= {".cache", ".config"}
    assert not (Path(stack.env["HOME"]) / ".prefect").exists()
