"""A wrong bucket deletes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blocks.settings import Settings
from flows.audit import audit
from flows.promote import promote
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.bucket.errors import MovedOnError
from tasks.errors import DeletionError, GateError
from tasks.ledger.database import Database
from tasks.ledger.generations import generations
from tasks.ledger.objects import count_objects
from tasks.milvus.store import Store
from tasks.models import ObjectRef
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket

TOPICS = ("ash", "birch", "cedar", "elm", "fir", "oak")


def fill(bucket: Bucket, folder: str = "guides", topics: tuple[str, ...] = TOPICS) -> None:
    for topic in topics:
        bucket.put(f"{folder}/{topic}.md", f"# The {topic}\n\nThe {topic} is a tree of its own kind.\n")


def empty(bucket: Bucket, folder: str = "guides", topics: tuple[str, ...] = TOPICS) -> None:
    for topic in topics:
        bucket.delete(f"{folder}/{topic}.md")


def held(name: str, collection: str | None = None) -> set[str]:
    """The keys that answer."""
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    live = collection or store.live()
    assert live
    keys = {row["key"] for row in store.rows(live, ["key"])}
    store.client.close()
    return keys


def states(name: str, collection: str) -> dict[str, int]:
    ledger = Database(load_pipeline(name).ledger)
    try:
        return count_objects(ledger, collection)
    finally:
        ledger.engine.dispose()


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A pipeline whose bucket of six objects is indexed."""
    fill(bucket)
    made = make_pipeline()
    sync(made)
    return made


def test_a_bucket_that_is_suddenly_empty_deletes_nothing(name: str, bucket: Bucket) -> None:
    before = held(name)
    empty(bucket)
    with pytest.raises(DeletionError, match="6 of the 6"):
        sync(name)
    assert held(name) == before
    assert states(name, f"{name}_g0001") == {"chunks": 6, "indexed": 6}, "no deletion was recorded"
    fill(bucket)
    assert sync(name).unchanged == 6
    empty(bucket)
    assert sync(name, allow_deletions=True).deleted == 6
    assert held(name) == set()


def test_a_folder_that_was_renamed_is_not_held_for_lost(name: str, bucket: Bucket) -> None:
    fill(bucket, "manuals")
    empty(bucket)
    report = sync(name)
    assert (report.new, report.deleted, report.chunks_embedded) == (6, 6, 0)


@pytest.mark.parametrize("why", ["cannot be read", pytest.param("unsuitable", marks=pytest.mark.long)])
def test_what_was_renamed_to_where_nobody_can_read_it_is_held_for_lost(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    before = held(name)

    def moved_on(_client: object, _source: object, ref: ObjectRef, _spool: object) -> None:
        raise MovedOnError(f"'{ref.key}' changed while it was being read")

    empty(bucket)
    for topic in TOPICS:  # the same bytes
        text = f"# The {topic}\n\nThe {topic} is a tree of its own kind.\n"
        bucket.put(f"guides/{topic}.md" + (".exe" if why == "unsuitable" else "%2F"), text)
    with monkeypatch.context() as broken:
        if why == "cannot be read":
            broken.setattr("tasks.indexing.read.fetch", moved_on)
        with pytest.raises(DeletionError, match=r"6 of the 6 objects .* were moved"):
            sync(name)
        assert held(name) == before
        with pytest.raises(DeletionError):
            sync(name)
    assert held(name) == before
    fill(bucket)
    sync(name)
    assert held(name) >= before


def test_what_is_moved_is_not_deleted_by_a_sync_that_is_refused(name: str, bucket: Bucket) -> None:
    before = held(name)
    fill(bucket, "manuals")
    empty(bucket)
    with pytest.raises(DeletionError, match="were moved"):
        sync(name, Settings(chunk_tokens=64))
    assert held(name) == before
    assert sync(name).chunks_embedded == 0
    assert held(name) == {key.replace("guides", "manuals") for key in before}


def test_a_run_that_was_allowed_and_died_is_finished_without_asking_again(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(bucket, topics=TOPICS[:5])

    def dies(*_: object) -> None:
        raise DiedError

    class DiedError(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr("flows.work.work_off", dies)
        with pytest.raises(DiedError):
            sync(name, allow_deletions=True)
    assert states(name, f"{name}_g0001")["deleting"] == 5
    sync(name)
    assert held(name) == {"guides/oak.md"}


def test_neither_a_rebuild_of_an_empty_listing_nor_the_way_back_costs_anything(name: str, bucket: Bucket) -> None:
    before = held(name)
    rebuild(name, Settings(embed_heading=False))
    empty(bucket)
    with pytest.raises(GateError, match=r"objects / live is 0, must be ≥ 0\.5"):
        rebuild(name, Settings(chunk_tokens=64))
    assert held(name) == before
    with pytest.raises(DeletionError):
        rollback(name)
    assert held(name) == before
    for number in (1, 2):
        assert states(name, f"{name}_g000{number}")["indexed"] == 6, "there is a way back, and a way forth"
    done = rebuild(name, Settings(chunk_tokens=64), allow_deletions=True)
    assert done.promoted
    assert held(name) == set()


def test_a_person_may_promote_and_go_back_to_what_has_lost_much(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(embed_heading=False), promote="manual")
    empty(bucket)
    with pytest.raises(DeletionError):
        promote(name)
    assert promote(name, allow_deletions=True).collection == f"{name}_g0002"
    assert held(name) == set()
    assert states(name, f"{name}_g0001")["indexed"] == 6
    with pytest.raises(DeletionError):
        rollback(name)
    assert held(name) == {f"guides/{topic}.md" for topic in TOPICS}
    rollback(name, to=2)
    assert rollback(name, allow_deletions=True).collection == f"{name}_g0001"
    assert held(name) == set()


def test_a_repair_stops_where_a_sync_would(name: str, bucket: Bucket) -> None:
    empty(bucket)
    with pytest.raises(DeletionError):
        audit(name, repair=True)
    assert len(held(name)) == 6
    with pytest.raises(DeletionError, match="6 of the 6"):  # what it found to be wrong is as many as before
        sync(name)
    assert audit(name, repair=True, allow_deletions=True).consistent
    assert held(name) == set()


def test_the_numbers_stand_in_the_artifact_of_the_run(name: str, bucket: Bucket) -> None:
    from prefect.artifacts import Artifact

    empty(bucket)
    with pytest.raises(DeletionError):
        sync(name)
    shown = Artifact.get(f"sync-{name}")
    assert shown is not None
    assert "too much would be deleted" in str(shown.data)
    assert "guides/ash.md" in str(shown.data)
    assert "\\-\\-allow-deletions" in str(shown.data) or "--allow-deletions" in str(shown.data)


def test_generations_of_a_stopped_rebuild_are_gone_on_with(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(chunk_tokens=64), promote="manual")
    empty(bucket)
    with pytest.raises(DeletionError):
        rebuild(name, Settings(chunk_tokens=64))
    fill(bucket)
    assert rebuild(name, Settings(chunk_tokens=64)).promoted
    block = load_pipeline(name)
    assert len(generations(Database(block.ledger), block.alias)) == 2
