"""A pipeline that is changed in the Prefect UI while a run waits: nothing is mixed, and no change is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocks.embedder import Embedder
from blocks.pipeline import Pipeline
from blocks.settings import Settings
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.errors import ChangedError
from tasks.generations.opening import finish_swap
from tasks.ledger.database import Database
from tasks.ledger.lease import writing
from tasks.ledger.objects import count_objects
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline, moved
from tasks.resources import Resources
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, new_bucket, sqlite_url

TEXT = "# Pumps\n\nThe filter of the pump is replaced every 400 hours.\n"


def indexed(block: Pipeline) -> set[str]:
    store = Store(block.store, block.alias)
    live = store.live()
    assert live is not None
    found = {row["key"] for row in store.rows(live, ["key"])}
    store.client.close()
    return found


@contextmanager
def waiting(block: Pipeline, run: Callable[[], Any], what: str = "") -> Iterator[list[Any]]:
    """Let a run wait for the writer of the alias, or of ``what``, while the body is done; yields what came of it."""
    came_of_it: list[Any] = []

    def attempt() -> None:
        try:
            came_of_it.append(run())
        except Exception as error:
            came_of_it.append(error)

    waits = threading.Event()
    with (
        writing(Database(block.ledger), what or block.alias, "a promotion", 0, print),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("tasks.ledger.lease.time.sleep", lambda seconds, sleep=time.sleep: (waits.set(), sleep(seconds)))
        thread = threading.Thread(target=attempt)
        thread.start()
        assert waits.wait(60)
        yield came_of_it
    thread.join(120)


@pytest.mark.parametrize("run", [sync, pytest.param(rollback, marks=pytest.mark.long)])
@pytest.mark.parametrize("part", ["source", "store", "ledger"])
def test_a_run_that_waited_writes_nothing_of_another_bucket_into_the_index_it_is_connected_to(
    make_pipeline: Callable[..., str], bucket: Bucket, s3_server: Server, milvus_lite: Server, tmp_path: Path,
    run: Callable[[str], Any], part: str,
) -> None:  # fmt: skip
    for number in range(3):
        bucket.put(f"alpha-{number}.md", f"{TEXT}{number}")
    name = make_pipeline()
    sync(name)
    before = load_pipeline(name)
    other = new_bucket(s3_server)
    other.put("beta.md", TEXT)
    (tmp_path / "other").mkdir()
    ledger = sqlite_url(tmp_path / "other" if part == "ledger" else tmp_path)
    milvus = milvus_lite.url + ("/" if part == "store" else "")
    change = pipeline_maker(other if part == "source" else bucket, s3_server.url, milvus, ledger)
    with waiting(before, lambda: run(name)) as came_of_it:
        change(alias=name, name=name)
    (error,) = came_of_it
    assert isinstance(error, ChangedError), error
    assert f"'{name}' was changed while this run waited ({part}." in str(error)
    assert indexed(before) == {"alpha-0.md", "alpha-1.md", "alpha-2.md"}
    assert count_objects(Database(before.ledger), f"{name}_g0001")["indexed"] == 3


def test_so_does_one_that_waited_for_the_writer_of_its_generation(
    make_pipeline: Callable[..., str], bucket: Bucket, s3_server: Server, milvus_lite: Server, tmp_path: Path
) -> None:
    bucket.put("alpha.md", TEXT)
    name = make_pipeline()
    collection = sync(name).collection
    before = load_pipeline(name)
    change = pipeline_maker(new_bucket(s3_server), s3_server.url, milvus_lite.url, sqlite_url(tmp_path))
    with waiting(before, lambda: sync(name), collection) as came_of_it:
        change(alias=name, name=name)
    assert isinstance(came_of_it[0], ChangedError), came_of_it
    assert indexed(before) == {"alpha.md"}


def test_a_sync_that_waited_while_the_alias_moved_writes_to_what_is_live_then(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("a.md", TEXT)
    name = make_pipeline()
    old = sync(name).collection
    rebuild(name, Settings(embed_heading=False))
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    live = store.live()
    assert live not in (None, old)
    with waiting(block, lambda: sync(name), live) as came_of_it:
        store.point_alias(old)
        bucket.put("b.md", TEXT + "New.")
    assert came_of_it[0].collection == old, came_of_it
    assert indexed(load_pipeline(name)) == {"a.md", "b.md"}


def test_a_sync_that_waited_takes_other_settings_and_keeps_its_connections(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("a.md", TEXT)
    name = make_pipeline()
    block = load_pipeline(name)
    with Resources(block, block.settings) as resources:
        make_pipeline(source={"max_bytes": 10}, top_k=3)
        resources.work_as(load_pipeline(name))
        assert resources.settings.top_k == 3
        assert resources.pipeline.source is block.source
        assert moved(block, resources.pipeline) == []


def test_what_was_set_while_a_generation_was_promoted_is_not_undone(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    """Its batch size, say: of the model, the pipeline takes what the generation was built with, and nothing else."""
    bucket.put("a.md", TEXT)
    name = make_pipeline(embedder={"document_prompt": "first: "})
    sync(name)
    make_pipeline(embedder={"document_prompt": "second: "})
    rebuild(name, Settings(embed_heading=False))
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    with Resources(block, block.settings) as resources:  # as a run that has waited for a day was opened
        embedder = Embedder.load(name)
        embedder.batch_size, embedder.device = 7, "cpu"
        embedder.save(name, overwrite=True)
        store.point_alias(f"{name}_g0001")
        finish_swap(resources, f"{name}_g0001")
    saved = load_pipeline(name)
    assert (saved.embedder.document_prompt, saved.settings.embed_heading) == ("first: ", True)
    assert (saved.embedder.batch_size, saved.embedder.device) == (7, "cpu")


def test_a_model_that_pipelines_share_stays_shared_when_only_settings_follow(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("a.md", TEXT)
    name = make_pipeline()
    Embedder().save(f"{name}-shared", overwrite=True)
    block = load_pipeline(name)
    block.embedder = Embedder.load(f"{name}-shared")
    block.save(name, overwrite=True)
    sync(name)
    rebuild(name, Settings(embed_heading=False))
    assert load_pipeline(name).embedder._block_document_name == f"{name}-shared"
