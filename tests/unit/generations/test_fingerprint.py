"""The fingerprint: everything that decides a chunk and its vector, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.embedder import Embedder
from blocks.ledger import Ledger
from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source
from blocks.settings import Settings
from tasks.errors import FingerprintError
from tasks.generations.fingerprint import check, differences, fingerprint, ingredients, same_vectors, with_settings_of

SETTINGS_IN = {
    "chunk_tokens": 128,
    "embed_heading": False,
    "tenants": True,
    "index_type": "AUTOINDEX",
    "index_params": {"M": 32, "efConstruction": 100},
}
SETTINGS_OUT = {
    "list_ranges": 7,
    "batch_objects": 7, "batch_bytes": 7, "wave_batches": 7, "parse_processes": 7, "parse_seconds": 7.0,
    "parse_memory_mb": 777, "wait_for_writer_seconds": 7.0, "search_params": {"ef": 77}, "gate_recall": 0.7,
    "gate_latency": 7.0, "gate_samples": 7, "golden": "golden.jsonl", "gate_golden": 0.7, "approval_hours": 7.0,
    "canary_questions": 7, "canary_errors": 0.7, "canary_latency": 7.0, "canary_abstention": 0.7, "canary_score": 0.7,
    "keep_generations": 7, "keep_hours": 7.0,
    "max_failed_share": 0.7, "max_failed_least": 7, "withheld_hours": 1.0,
    "max_deleted_share": 0.3, "mode": "hybrid", "fusion": "ranks",
    "dense_share": 0.1, "top_k": 7, "min_score": 0.7,
    "answers": "marked", "stages": 2, "strict": True, "fallback": "extractive", "cache_seconds": 7.0,
    "system_prompt": "Be kind.", "top_p": 0.7, "seed": 7,
    "rerank_model": "a/model", "rerank_depth": 7, "near_copies": 0.7, "neighbours": 7, "passage_order": "best_last",
    "extract_sentences": 7, "temperature": 0.7, "max_answer_tokens": 77, "context_tokens": 777,
    "record_questions": True, "record_days": 7.0, "personal_data": "mask", "moderation_url": "http://moderation/v1",
    "moderation_model": "a/model", "moderation_failure": "open", "moderation_api": "chat",
}  # fmt: skip
EMBEDDER_IN = {
    "model_name": "intfloat/e5-small", "revision": "v2", "dtype": "bfloat16", "query_prompt": "query: ",
    "document_prompt": "passage: ",
}  # fmt: skip
EMBEDDER_OUT = {"device": "cpu", "batch_size": 7}


def pipeline(**changed: Any) -> Pipeline:
    parts = {
        "alias": "docs",
        "source": S3Source(bucket="documents"),
        "store": MilvusStore(uri="http://milvus:19530"),
        "ledger": Ledger(url=SecretStr("sqlite://")),
        "embedder": embedder(),
    }
    return Pipeline(**{**parts, **changed})


def embedder(**changed: Any) -> Embedder:
    return Embedder(**{"dtype": "float32", **changed})


PLAIN = ingredients(pipeline())


def test_every_setting_is_known_to_be_in_or_out() -> None:
    assert SETTINGS_IN.keys() | SETTINGS_OUT.keys() == set(Settings.model_fields)
    assert EMBEDDER_IN.keys() | EMBEDDER_OUT.keys() == set(Embedder.model_fields)


@pytest.mark.parametrize("change", [{name: value} for name, value in SETTINGS_IN.items()], ids=SETTINGS_IN.keys())
def test_a_setting_that_decides_a_chunk_changes_it(change: dict[str, Any]) -> None:
    changed = ingredients(pipeline(settings=Settings(**change)))
    assert fingerprint(changed) != fingerprint(PLAIN)
    ((name, value),) = change.items()
    before = "unset" if PLAIN[name] is None else PLAIN[name]
    assert f"{name}: {before} → {value}" in differences(PLAIN, changed)


@pytest.mark.parametrize("change", [{name: value} for name, value in EMBEDDER_IN.items()], ids=EMBEDDER_IN.keys())
def test_a_setting_of_the_embedder_that_decides_a_vector_changes_it(change: dict[str, Any]) -> None:
    changed = ingredients(pipeline(embedder=embedder(**change)))
    assert fingerprint(changed) != fingerprint(PLAIN)
    assert len(differences(PLAIN, changed)) == 1


@pytest.mark.parametrize("name", ["PARSER", "CHUNKER", "WORDS"])
def test_a_new_parser_chunker_or_way_to_take_words_apart_changes_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(f"tasks.generations.fingerprint.{name}", 99)
    assert differences(PLAIN, ingredients(pipeline())) == [f"{name.lower()}: {PLAIN[name.lower()]} → 99"]


@pytest.mark.parametrize("change", [{name: value} for name, value in SETTINGS_OUT.items()], ids=SETTINGS_OUT.keys())
def test_another_setting_leaves_it(change: dict[str, Any]) -> None:
    assert pipeline(settings=Settings(**change)).settings != Settings()
    assert ingredients(pipeline(settings=Settings(**change))) == PLAIN


@pytest.mark.parametrize(
    "others",
    [
        {"alias": "other"},
        {"source": S3Source(bucket="other", prefix="x/", include=["*.md"])},
        {"store": MilvusStore(uri="http://other:1")},
        {"ledger": Ledger(url=SecretStr("sqlite:///other.db"))},
        {"chat_model": ChatModel(base_url="http://vllm:8000/v1")},
        {"embedder": embedder(**EMBEDDER_OUT)},
    ],
    ids=lambda others: next(iter(others)),
)
def test_connections_and_speed_leave_it(others: dict[str, Any]) -> None:
    assert ingredients(pipeline(**others)) == PLAIN


def test_it_is_the_same_in_every_process_and_order() -> None:
    assert fingerprint({"b": 1, "a": None}) == fingerprint({"a": None, "b": 1}) == "84950323fcbaa4d3"


def test_the_same_settings_pass() -> None:
    check("docs_g0001", dict(PLAIN), dict(PLAIN))


def test_the_message_names_the_generation_and_each_difference() -> None:
    asked = ingredients(pipeline(embedder=embedder(revision="v2"), settings=Settings(chunk_tokens=128)))
    with pytest.raises(FingerprintError) as caught:
        check("docs_g0007", PLAIN, asked)
    message = str(caught.value)
    assert "docs_g0007" in message
    assert "chunk_tokens: 96 → 128; revision: unset → v2" in message
    assert "lockstep rebuild" in message


def test_a_pipeline_as_built_has_the_ingredients_of_the_generation() -> None:
    other = pipeline(
        settings=Settings(**SETTINGS_IN, search_params={"ef": 500}, top_k=3), embedder=embedder(**EMBEDDER_IN)
    )
    built = with_settings_of(other, PLAIN)
    assert ingredients(built) == PLAIN
    assert built.settings.top_k == 3
    assert built.settings.search_params == {}
    assert with_settings_of(other, ingredients(other)) is other
    assert with_settings_of(other, None) is other


def test_vectors_are_the_same_whatever_cuts_the_text_and_finds_the_chunk() -> None:
    assert same_vectors(PLAIN, ingredients(pipeline(settings=Settings(**SETTINGS_IN))))
    for name in ("model_name", "revision", "dtype", "document_prompt"):
        assert not same_vectors(PLAIN, ingredients(pipeline(embedder=embedder(**{name: EMBEDDER_IN[name]}))))


def test_an_ingredient_that_an_older_version_did_not_have_is_a_difference() -> None:
    older = {name: value for name, value in PLAIN.items() if name != "dtype"}
    assert differences(older, PLAIN) == ["dtype: unset → float32"]
