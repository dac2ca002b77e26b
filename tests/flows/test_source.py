"""A generation knows its bucket and its ledger: another one neither empties it nor answers from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.settings import Settings
from flows.ask import ask
from flows.audit import audit
from flows.collect_garbage import collect_garbage
from flows.evaluate import evaluate
from flows.promote import promote
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.errors import DeletionError, GateError, SourceError
from tasks.generations.claims import source_kept
from tasks.ledger.database import Database
from tasks.ledger.generations import record_source
from tasks.ledger.objects import count_objects
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.flows.test_brake import fill, held
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, new_bucket, sqlite_url

OTHERS = ("pear", "quince")


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A synced pipeline of six objects."""
    fill(bucket)
    made = make_pipeline()
    sync(made)
    return made


@pytest.fixture
def neighbour(name: str, s3_server: Server, milvus_lite: Server, tmp_path: Path) -> str:
    """A pipeline of another bucket and a ledger of its own, which shares Milvus and alias with the first."""
    other = new_bucket(s3_server)
    fill(other, topics=OTHERS)
    (tmp_path / "neighbour").mkdir()
    make = pipeline_maker(other, s3_server.url, milvus_lite.url, sqlite_url(tmp_path / "neighbour"))
    return make(alias=name, name=f"{name}-b")


def test_a_prefix_that_was_mistyped_touches_nothing(make_pipeline: Callable[..., str], name: str) -> None:
    before = held(name)
    make_pipeline(source={"prefix": "gudies/"})
    for refused in (
        lambda: sync(name),
        lambda: rebuild(name, Settings(chunk_tokens=64)),
        lambda: audit(name, repair=True),
    ):
        with pytest.raises(SourceError, match="gudies"):
            refused()
    assert held(name) == before
    make_pipeline(source={"prefix": ""})
    assert sync(name).unchanged == 6


def test_a_prefix_that_is_meant_is_accepted_once(make_pipeline: Callable[..., str], bucket: Bucket, name: str) -> None:
    fill(bucket, "manuals", OTHERS)
    make_pipeline(source={"prefix": "manuals/"})
    with pytest.raises(DeletionError, match="--accept-source --allow-deletions"):
        sync(name, accept_source=True)
    with pytest.raises(SourceError):
        sync(name, allow_deletions=True)
    report = sync(name, allow_deletions=True, accept_source=True)
    assert (report.new, report.deleted) == (2, 6)
    assert sync(name).unchanged == 2
    assert audit(name).consistent


def test_a_yes_to_another_bucket_is_kept_by_no_sync_that_was_stopped(
    make_pipeline: Callable[..., str], bucket: Bucket, name: str
) -> None:
    """A typo with a yes in it: nothing is deleted, and who comes with the right prefix need not say yes to it."""
    before = held(name)
    make_pipeline(source={"prefix": "gudies/"})
    for stopped in (
        lambda: sync(name, accept_source=True),
        lambda: audit(name, repair=True, accept_source=True),
    ):
        with pytest.raises(DeletionError):
            stopped()
    make_pipeline(source={"prefix": ""})
    report = sync(name)
    assert (report.new, report.deleted, report.chunks_embedded) == (0, 0, 0)
    assert held(name) == before
    assert audit(name).consistent


def test_a_generation_of_a_mistyped_prefix_is_in_nobodys_way(
    make_pipeline: Callable[..., str], bucket: Bucket, name: str
) -> None:
    """It is neither gone on with nor kept for ever."""
    fill(bucket, "gudies", OTHERS)
    make_pipeline(source={"prefix": "gudies/"})
    with pytest.raises(GateError):
        rebuild(name, Settings(chunk_tokens=64), accept_source=True)
    make_pipeline(source={"prefix": ""}, keep_hours=0, keep_generations=1)
    rebuilt = rebuild(name, Settings(chunk_tokens=64, keep_hours=0, keep_generations=1))
    assert rebuilt.collection == f"{name}_g0003"
    assert len(held(name)) == 8
    assert f"{name}_g0002" in collect_garbage(name)


def test_a_second_ledger_with_another_bucket_is_refused_before_it_writes(name: str, neighbour: str) -> None:
    before = held(name)
    for refused in (
        lambda: sync(neighbour),
        lambda: rebuild(neighbour, Settings(chunk_tokens=64)),
        lambda: promote(neighbour),
        lambda: rollback(neighbour),
        lambda: audit(neighbour),
        lambda: collect_garbage(neighbour),
    ):
        with pytest.raises(SourceError):
            refused()
    assert held(name) == before
    ledger = Database(load_pipeline(neighbour).ledger)
    assert count_objects(ledger, f"{name}_g0001") == {"chunks": 0}, "nothing was adopted"
    assert sync(name).unchanged == 6


def test_who_took_over_on_purpose_answers_and_the_other_does_not(name: str, neighbour: str, tmp_path: Path) -> None:
    with pytest.raises(DeletionError):
        sync(neighbour, accept_source=True)
    sync(neighbour, allow_deletions=True, accept_source=True)
    assert held(neighbour) == {f"guides/{topic}.md" for topic in OTHERS}
    assert {one.key for one in ask("What is the quince?", neighbour).citations} == {"guides/quince.md"}
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"question": "What is the quince?", "relevant": ["guides/quince.md"]}\n')
    assert evaluate(neighbour, str(golden)).evaluation.measures["recall@10"] == 1
    for refused in (lambda: ask("What is the quince?", name), lambda: evaluate(name, str(golden))):
        with pytest.raises(SourceError, match="questions"):
            refused()
    with pytest.raises(SourceError):
        sync(name)


def test_questions_go_on_while_the_pipeline_is_about_to_be_moved(make_pipeline: Callable[..., str], name: str) -> None:
    make_pipeline(source={"prefix": "gudies/"})
    assert ask("What is the elm?", name).citations


def test_a_ledger_that_was_lost_takes_over_and_the_old_one_is_refused_then(
    make_pipeline: Callable[..., str], name: str, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    make_pipeline(ledger=sqlite_url(tmp_path / "new"))
    assert ask("What is the elm?", name).citations
    assert sync(name).chunks_embedded == 0
    assert sync(name).unchanged == 6
    make_pipeline()
    with pytest.raises(SourceError, match="another ledger"):
        sync(name)
    sync(name, accept_source=True)
    assert audit(name).consistent


def test_a_rollback_to_another_bucket_moves_nothing(
    make_pipeline: Callable[..., str], bucket: Bucket, name: str
) -> None:
    make_pipeline(source={"prefix": "guides/"})
    rebuild(name, Settings(chunk_tokens=64), accept_source=True)
    with pytest.raises(SourceError, match="g0001"):
        rollback(name)
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    assert store.live() == f"{name}_g0002"
    assert rollback(name, accept_source=True).collection == f"{name}_g0001"
    assert store.live() == f"{name}_g0001"
    store.client.close()


def test_another_bucket_is_promoted_only_if_it_is_meant(make_pipeline: Callable[..., str], name: str) -> None:
    rebuild(name, Settings(chunk_tokens=64), promote="manual")
    make_pipeline(source={"prefix": "guides/"})
    with pytest.raises(SourceError, match="prefix 'guides/'"):
        promote(name)
    assert promote(name, accept_source=True).collection == f"{name}_g0002"
    assert sync(name).unchanged == 6


def test_what_an_older_lockstep_built_is_taken_as_it_is(name: str) -> None:
    block = load_pipeline(name)
    store, ledger = Store(block.store, block.alias), Database(block.ledger)
    collection = store.live()
    assert collection
    store.client.drop_collection_properties(collection, ["lockstep.source"])
    record_source(ledger, collection, None)  # type: ignore[arg-type]
    assert sync(name).unchanged == 6
    kept = source_kept(store, collection)
    assert kept is not None
    assert kept.bucket == block.source.bucket
    store.client.close()
