"""In which order a run does its work, and that it stops when another has become the writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from blocks.settings import Settings
from flows.promote import promote
from flows.rebuild import rebuild
from flows.sync import sync
from tasks.crash_points import CrashPoint, listeners
from tasks.evaluation import gates
from tasks.indexing import steps
from tasks.ledger import lease
from tasks.ledger.database import Database
from tasks.ledger.tables import WRITERS
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket

BEFORE, AFTER = "The green light shows that it is ready.", "The blue light shows that it is ready."


@pytest.fixture
def at() -> Iterator[list[Callable[[CrashPoint], None]]]:
    """Who is called at each place between two effects."""
    yield listeners
    listeners.clear()


def texts(name: str) -> set[str]:
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    found = {row["text"] for row in store.rows(store.live() or "", ["text"])}
    store.client.close()
    return found


def taken_over(name: str, lease_of: str) -> None:
    """Let another be the writer, as after a long sleep of this machine, and wait until this one knows."""
    ledger = Database(load_pipeline(name).ledger)
    with ledger.transaction() as connection:
        of_it = sa.update(WRITERS).where(WRITERS.c.collection == lease_of)
        assert connection.execute(of_it.values(holder="another", described="another run")).rowcount == 1
    ledger.engine.dispose()
    time.sleep(20 * lease.RENEWED_EVERY_SECONDS)


def test_nothing_is_deleted_before_what_replaces_it_is_written(
    make_pipeline: Callable[..., str], bucket: Bucket, at: list[Callable[[CrashPoint], None]]
) -> None:
    bucket.put("a.txt", BEFORE)
    name = make_pipeline()
    sync(name)
    bucket.put("a.txt", AFTER)
    deleting, early = threading.Event(), []

    def look(place: CrashPoint) -> None:
        if place == "some chunks deleted":
            deleting.set()
        if place == "some rows written":  # the upsert is on its way, and may take long
            early.append(deleting.wait(1.0))
            assert texts(name) == {BEFORE, AFTER}

    at.append(look)
    sync(name)
    assert early == [False]
    assert deleting.is_set()
    assert texts(name) == {AFTER}


def test_a_batch_is_embedded_when_the_one_before_is_written(
    make_pipeline: Callable[..., str],
    bucket: Bucket,
    at: list[Callable[[CrashPoint], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a run that dies loses the vectors of one batch at the most."""
    for number in range(3):
        bucket.put(f"{number}.txt", f"Text number {number} of three.")
    name = make_pipeline(batch_objects=1)
    embed_batch, done = steps.embed_batch, list[str]()

    def embedding(*given: Any) -> Any:
        done.append("embedded")
        return embed_batch(*given)

    def look(place: CrashPoint) -> None:
        if place == "some rows written":
            time.sleep(0.5)  # the next batch would be embedded by now
            done.append("written")

    monkeypatch.setattr(steps, "embed_batch", embedding)
    at.append(look)
    assert sync(name).chunks_embedded == 3
    assert done == ["embedded", "written"] * 3


@pytest.mark.parametrize("place", ["wanted recorded", "some rows written"])
def test_a_sync_whose_lease_another_has_writes_no_more(
    make_pipeline: Callable[..., str],
    bucket: Bucket,
    at: list[Callable[[CrashPoint], None]],
    monkeypatch: pytest.MonkeyPatch,
    place: CrashPoint,
) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.05)
    bucket.put("a.txt", BEFORE)
    name = make_pipeline()
    collection = sync(name).collection
    bucket.put("a.txt", AFTER)

    def look(reached: CrashPoint) -> None:
        if reached == place:
            at.clear()
            taken_over(name, collection)

    at.append(look)
    with pytest.raises(Exception, match="no longer the writer"):
        sync(name)
    assert BEFORE in texts(name), "nothing is deleted"
    assert (AFTER in texts(name)) == (place == "some rows written")


def test_a_promotion_whose_lease_another_has_moves_no_alias(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may be building, measuring or dropping generations by now."""
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.05)
    bucket.put("a.txt", BEFORE)
    name = make_pipeline()
    live = sync(name).collection
    rebuild(name, Settings(embed_heading=False), promote="manual")
    measure = gates.measure

    def slowly(*given: Any) -> Any:
        found = measure(*given)
        taken_over(name, lease.next_of(load_pipeline(name).alias))
        return found

    monkeypatch.setattr(gates, "measure", slowly)
    with pytest.raises(Exception, match="no longer the writer"):
        promote(name)
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    assert store.live() == live
    store.client.close()
