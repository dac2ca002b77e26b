"""Deletions reach what answers, a way back is looked at before it is taken, and an alias that is gone comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from blocks.settings import Settings
from flows.audit import audit
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.errors import DeletionError, FingerprintError, OutageError, PermanentError, SourceError
from tasks.generations.fingerprint import PARSER
from tasks.ledger.canary import Canary, begin_canary
from tasks.ledger.database import Database, now
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket

KEYS = {f"pumps/{number}.md" for number in range(6)}
OTHER = Settings(embed_heading=False)


def text(key: str) -> str:
    return f"# On {key}\n\nThe pump of {key} is serviced every 400 hours.\n"


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A synced pipeline of six objects."""
    for key in KEYS:
        bucket.put(key, text(key))
    made = make_pipeline()
    sync(made)
    return made


def store_of(name: str) -> Store:
    block = load_pipeline(name)
    return Store(block.store, block.alias)


def held(name: str, number: int) -> set[str]:
    return {row["key"] for row in store_of(name).rows(f"{name}_g{number:04d}", ["key"])}


def without_alias(name: str) -> None:
    store_of(name).client.drop_alias(load_pipeline(name).alias)


def newer_lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.generations.fingerprint.PARSER", 1000)


def in_canary(name: str, number: int, live: int) -> None:
    block = load_pipeline(name)
    both = (f"{name}_g{one:04d}" for one in (number, live))
    begin_canary(Database(block.ledger), Canary(block.alias, *both, (50,), 0, 900.0, now()))


def test_a_rollback_over_an_update_is_refused_before_the_alias_moves_and_deletes_when_it_is_forced(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_lockstep(monkeypatch)
    rebuild(name)
    bucket.delete("pumps/0.md")
    sync(name)
    with pytest.raises(FingerprintError, match=rf"another version of Lockstep \(parser: {PARSER} → 1000\).*--force"):
        rollback(name)
    assert store_of(name).live() == f"{name}_g0002"
    assert load_pipeline(name).settings.embed_heading

    done = rollback(name, force=True)
    assert (done.collection, done.chunks_embedded) == (f"{name}_g0001", 0)
    assert store_of(name).live() == f"{name}_g0001"
    assert held(name, 1) == KEYS - {"pumps/0.md"}


def test_a_sync_with_other_settings_deletes_what_is_gone_and_writes_nothing(
    name: str, bucket: Bucket, make_pipeline: Callable[..., str]
) -> None:
    make_pipeline(embed_heading=False)
    bucket.delete("pumps/0.md")
    bucket.put("pumps/new.md", text("new"))
    with pytest.raises(FingerprintError, match="embed_heading: True → False"):
        sync(name)
    assert held(name, 1) == KEYS - {"pumps/0.md"}
    make_pipeline(embed_heading=True)
    assert sync(name).new == 1
    assert audit(name).consistent


LONG = pytest.mark.long


@pytest.mark.parametrize("why", ["outage", pytest.param("renamed", marks=LONG), pytest.param("settings", marks=LONG)])
def test_what_is_gone_leaves_a_canary_also_when_the_live_generation_cannot_be_synced(
    name: str, bucket: Bucket, make_pipeline: Callable[..., str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    rebuild(name, OTHER, promote="manual")
    in_canary(name, number=2, live=1)
    bucket.delete("pumps/0.md")
    expected: type[Exception] = FingerprintError
    if why == "settings":
        make_pipeline(chunk_tokens=64)
    else:
        new = text("pumps/0.md") if why == "renamed" else text("new")
        for number in range(8 if why == "outage" else 1):
            bucket.put(f"new/{number}.md", new)
        expected = OutageError if why == "outage" else RuntimeError

        def unreadable(*_: Any) -> None:
            raise (PermanentError if why == "outage" else RuntimeError)("nobody can read this")

        monkeypatch.setattr("tasks.indexing.read.fetch", unreadable)
    with pytest.raises(expected):
        sync(name)
    assert held(name, 1) == KEYS - {"pumps/0.md"}
    assert held(name, 2) == KEYS - {"pumps/0.md"}


def test_an_alias_that_is_gone_is_set_back_over_a_whole_generation(name: str, bucket: Bucket) -> None:
    without_alias(name)
    bucket.put("pumps/new.md", text("new"))
    report = sync(name)
    assert (report.collection, report.new, report.unchanged) == (f"{name}_g0001", 1, 6)
    assert store_of(name).live() == f"{name}_g0001"


def test_of_several_generations_the_alias_is_set_back_to_the_one_that_was_live(name: str) -> None:
    rebuild(name, OTHER)
    rollback(name)
    rebuild(name, Settings(index_type="FLAT"), promote="manual")
    without_alias(name)
    assert sync(name).collection == f"{name}_g0001"


@pytest.mark.parametrize("why", [pytest.param("settings", marks=LONG), "not whole"])
def test_over_anything_else_the_next_generation_is_built_with_the_vectors_that_are_there(
    name: str, make_pipeline: Callable[..., str], why: str
) -> None:
    store = store_of(name)
    lost = 0
    if why == "settings":
        make_pipeline(index_type="FLAT")
    else:  # as an older copy of Milvus under a newer ledger
        lost = 1
        store.delete(f"{name}_g0001", store.ids_of(f"{name}_g0001", ["pumps/0.md"]))
    without_alias(name)
    report = sync(name)
    assert (report.collection, report.chunks_embedded, report.chunks_reused) == (f"{name}_g0002", lost, 6 - lost)
    assert held(name, 2) == KEYS
    assert audit(name).consistent


def test_over_half_a_generation_a_wrong_bucket_does_not_answer(
    name: str, make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    store = store_of(name)
    store.delete(f"{name}_g0001", store.ids_of(f"{name}_g0001", ["pumps/0.md"]))
    without_alias(name)
    make_pipeline(source={"prefix": "gudies/"})
    with pytest.raises(SourceError):
        sync(name)
    make_pipeline(source={"prefix": ""})
    for key in KEYS:
        bucket.delete(key)
    with pytest.raises(DeletionError, match="6 of the 6 objects"):
        sync(name)
    assert store_of(name).live() is None
    for key in KEYS:
        bucket.put(key, text(key))
    assert sync(name).collection == f"{name}_g0002"
    assert held(name, 2) == KEYS


def test_a_first_generation_that_was_begun_is_gone_on_with_and_not_let_answer_by_half(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        bucket.put(key, text(key))
    name = make_pipeline(batch_objects=2, wave_batches=1)

    def die(*_: Any) -> None:
        raise RuntimeError("it died")

    with monkeypatch.context() as broken:
        broken.setattr("flows.work.quarantine_failures", die)
        with pytest.raises(RuntimeError):
            sync(name)
    assert store_of(name).live() is None
    report = sync(name)
    assert (report.collection, report.unchanged) == (f"{name}_g0001", 6)
    assert store_of(name).live() == f"{name}_g0001"
