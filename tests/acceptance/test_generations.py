"""Generations by the command, golden questions, and misuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import QUESTION, TEXT, Stack, eventually


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


@pytest.mark.long  # the flow is shown by `tests/flows/test_evaluate.py`, what is printed by unit tests
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
        (("up",), {"VLLM_BASE_URL": "http://127.0.0.1:9/v1"}, 1, "not everything works: vllm"),
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
