"""Golden questions asked of a real index: what is measured, compared, reported, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from blocks.settings import Settings
from flows.evaluate import evaluate
from flows.rebuild import rebuild
from flows.sync import sync
from tasks.errors import MisuseError
from tasks.evaluation.evaluate import as_rows
from tests.support.servers import Bucket

SUBJECTS = {
    "pump.md": "To start the pump, open the inlet valve and press the green button for three seconds.",
    "filter.md": "The filter must be replaced every 400 hours of operation.",
    "warranty.md": "The warranty ends two years after the purchase and covers all parts but the seals.",
    "noise.md": "At full speed the machine is as loud as a vacuum cleaner: wear ear protection.",
}
GOLDEN = [
    {"question": "How do I start the pump?", "relevant": ["pump.md"]},
    {"question": "How often is the filter replaced?", "relevant": ["filter.md"]},
    {"question": "For how long is the warranty?", "relevant": ["warranty.md"], "answer": "Two years."},
    {"question": "Which composer wrote the Moonlight Sonata?", "relevant": []},
]


def lines(questions: list[dict[str, object]]) -> str:
    return "\n".join(map(json.dumps, questions))


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    for key, text in SUBJECTS.items():
        bucket.put(key, f"# {key}\n\n{text}")
    made = make_pipeline()
    sync(made)
    return made


@pytest.fixture
def golden(tmp_path: Path) -> str:
    (tmp_path / "golden.jsonl").write_text(lines(GOLDEN))
    return str(tmp_path / "golden.jsonl")


def test_questions_are_measured_each_and_together(name: str, golden: str) -> None:
    done = evaluate(name, golden)
    assert done.evaluation.collection == f"{name}_g0001"
    assert done.baseline is None
    assert done.evaluation.measures == {"recall@1": 1, "recall@5": 1, "recall@10": 1, "mrr": 1, "ndcg@10": 1}
    assert done.evaluation.abstention == {"answerable": 0, "unanswerable": 1}
    assert 0 < done.evaluation.latency["p50_ms"] <= done.evaluation.latency["p95_ms"]
    rows = as_rows(done.evaluation)
    assert [row["rank"] for row in rows] == [1, 1, 1, None]
    assert set(rows[0]["found"]) == set(SUBJECTS)
    with get_client(sync_client=True) as client:
        kept = {artifact.key: artifact for artifact in client.read_artifacts(limit=200)}
    assert len(json.loads(str(kept[f"evaluate-{name}-questions"].data))) == len(GOLDEN)
    assert "recall@10" in str(kept[f"evaluate-{name}"].data)


def test_golden_questions_in_the_bucket_are_asked_and_not_indexed(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    for key, text in SUBJECTS.items():
        bucket.put(key, text)
    bucket.put("golden.txt", lines(GOLDEN))
    name = make_pipeline(golden=f"s3://{bucket.name}/golden.txt")
    assert sync(name).new == len(SUBJECTS)
    assert evaluate(name).evaluation.measures["recall@1"] == 1
    with pytest.raises(MisuseError, match="cannot be read"):
        evaluate(name, f"s3://{bucket.name}/nothing.jsonl")


def test_two_modes_and_two_generations_side_by_side(name: str, golden: str) -> None:
    by_words = evaluate(name, golden, mode="dense", against_mode="lexical")
    assert by_words.baseline is not None
    assert (by_words.evaluation.mode, by_words.baseline.mode) == ("dense", "lexical")
    difference = by_words.differences["mrr"]
    assert difference.low <= difference.difference <= difference.high
    rebuild(name, Settings(embed_heading=False), promote="manual")
    done = evaluate(name, golden, generation=2, against_generation=1)
    assert done.baseline is not None
    assert (done.evaluation.collection, done.baseline.collection) == (f"{name}_g0002", f"{name}_g0001")
    assert done.differences["recall@10"].difference == 0
    with pytest.raises(MisuseError, match="no generation 7; it has 2, 1"):
        evaluate(name, golden, generation=7)


def test_the_search_goes_as_deep_as_ten_objects_take(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    """One object has a hundred chunks nearer than any chunk of the others."""
    near = "\n\n".join(f"## Starting {n}\n\nHow to start pump number {n}." for n in range(100))
    bucket.put("many.md", near)
    for number in range(12):
        bucket.put(f"far-{number:02d}.txt", f"Entry {number} of the diary of a sailor, on the weather at sea.")
    bucket.put("golden.jsonl", lines([{"question": "How do I start a pump?", "relevant": ["many.md"]}]))
    name = make_pipeline(golden=f"s3://{bucket.name}/golden.jsonl")
    sync(name)
    (one,) = evaluate(name).evaluation.outcomes
    assert len(one.found) == 10
    assert one.rank == 1


def test_what_cannot_be_measured_is_told(name: str, golden: str, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="--golden"):
        evaluate(name)
    (tmp_path / "other.jsonl").write_text(lines([*GOLDEN, {"question": "Where?", "relevant": ["gone.md"]}]))
    other = str(tmp_path / "other.jsonl")
    with pytest.raises(MisuseError, match=r"'gone\.md', which should answer 'Where\?'.*--ignore-missing"):
        evaluate(name, other)
    done = evaluate(name, other, ignore_missing=True)
    assert (len(done.evaluation.outcomes), done.left_out) == (len(GOLDEN), 1)
