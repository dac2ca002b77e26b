"""A sync that is killed between any two effects is finished by the next one: nothing missing, doubled or left over."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from blocks.settings import Settings
from flows.audit import audit
from flows.collect_garbage import collect_garbage
from flows.promote import promote
from flows.rebuild import rebuild
from flows.sync import sync
from tasks.crash_points import CRASH_POINTS, CrashPoint
from tasks.generations.overview import overview
from tasks.ledger.canary import canary_of
from tasks.ledger.database import Database
from tasks.ledger.tables import GENERATIONS, OBJECTS
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.faults.conftest import Victim
from tests.support.servers import Bucket

FIRST: tuple[CrashPoint, ...] = ("generation recorded", "collection made", "generation created")
"""Places that only a first sync, or a rebuild, comes to."""
ADOPTION: tuple[CrashPoint, ...] = ("found keys doubted", "source recorded")
"""Places that only a sync comes to whose ledger was lost."""
REPAIR: tuple[CrashPoint, ...] = ("doubts recorded",)
"""Places of an audit's repair."""
SWAP: tuple[CrashPoint, ...] = ("marked ready", "alias moved", "pipeline follows")
"""Places between a generation that is built and one that answers."""
CANARY: tuple[CrashPoint, ...] = ("canary begun", "canary step taken")
"""Places of a promotion that goes step by step."""
GARBAGE: tuple[CrashPoint, ...] = ("collection dropped",)
"""Places of a generation's end."""


def text_of(key: str, version: int) -> str:
    return (
        f"# {key}\n\n## First\n\nThe first part of {key}, version {version}.\n\n## Second\n\nNever changes in {key}.\n"
    )


def held(pipeline: str) -> list[tuple[str, str]]:
    block = load_pipeline(pipeline)
    store = Store(block.store, block.alias)
    collection = store.live()
    assert collection is not None
    return sorted((row["key"], row["text"]) for row in store.rows(collection, ["key", "text"]))


def expected(versions: dict[str, int]) -> list[tuple[str, str]]:
    first = [(key, f"The first part of {key}, version {version}.") for key, version in versions.items()]
    return sorted(first + [(key, f"Never changes in {key}.") for key in versions])


def put(bucket: Bucket, versions: dict[str, int]) -> None:
    for key, version in versions.items():
        bucket.put(key, text_of(key, version))


@pytest.mark.parametrize("place", [*FIRST, "batch written", *SWAP])
def test_a_first_sync_that_dies_is_finished(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"a.md": 1, "b.md": 1})
    name = make_pipeline()
    assert victim.sync(name, place=place) == -signal.SIGKILL
    report = sync(name)
    assert report.collection == f"{name}_g0001"
    assert report.chunks_embedded == (0 if place in (*SWAP, "batch written") else 4)
    assert held(name) == expected({"a.md": 1, "b.md": 1})
    assert audit(name).consistent


@pytest.mark.parametrize(
    "place", [place for place in CRASH_POINTS if place not in FIRST + ADOPTION + REPAIR + SWAP + CANARY + GARBAGE]
)
def test_a_sync_that_dies_is_finished_by_the_next(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"changed.md": 1, "gone.md": 1, "kept.md": 1, "old-name.md": 1, "spoiled.md": 1})
    name = make_pipeline(batch_objects=2, parse_processes=1)
    sync(name)

    put(bucket, {"changed.md": 2, "new.md": 1})
    bucket.put("new-name.md", text_of("old-name.md", 1))
    bucket.put("spoiled.md", b"\x00\x01\x02\x03" * 100)
    bucket.delete("gone.md")
    bucket.delete("old-name.md")
    assert victim.sync(name, place=place) == -signal.SIGKILL

    # The world goes on while the run lies dead: what was to be deleted comes back, what was new goes.
    put(bucket, {"gone.md": 2})
    bucket.delete("new.md")
    report = sync(name)
    renamed = [("new-name.md", text) for _, text in expected({"old-name.md": 1})]
    whole = expected({"changed.md": 2, "gone.md": 2, "kept.md": 1, "spoiled.md": 1})
    assert held(name) == sorted(whole + renamed)
    found = audit(name)
    assert found.consistent
    assert found.keys["quarantined"] == ["spoiled.md"]
    assert (
        report.chunks_embedded <= 3
    )  # changed.md 1, gone.md 1 or 2: nothing that was written before is embedded again
    assert sync(name).chunks_embedded == 0


def test_a_repair_that_dies_is_finished_by_the_next_sync(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim
) -> None:
    put(bucket, {"a.md": 1, "b.md": 1})
    name = make_pipeline()
    sync(name)
    block = load_pipeline(name)
    Store(block.store, block.alias).prune(f"{name}_g0001", ["a.md"], set())
    (place,) = REPAIR
    assert victim.sync(name, place=place, run="repair") == -signal.SIGKILL
    sync(name)
    assert held(name) == expected({"a.md": 1, "b.md": 1})
    assert audit(name).consistent


@pytest.mark.parametrize("place", ADOPTION)
def test_a_sync_that_dies_while_it_adopts_a_generation_is_finished(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"a.md": 1, "gone.md": 1})
    name = make_pipeline()
    sync(name)
    with Database(load_pipeline(name).ledger).transaction() as connection:
        for table in (OBJECTS, GENERATIONS):
            connection.execute(sa.delete(table))
    bucket.delete("gone.md")
    assert victim.sync(name, place=place) == -signal.SIGKILL
    assert sync(name).chunks_embedded == 0
    assert held(name) == expected({"a.md": 1})
    assert audit(name).consistent


AS_ELSEWHERE: tuple[CrashPoint, ...] = (*FIRST, "wanted recorded", "batch recorded", "marked ready", "pipeline follows")
"""Places at which a rebuild that dies leaves what a sync, or a rollback, leaves that dies there: those are tried."""


@pytest.mark.parametrize(
    "place",
    ["batch written", "alias moved", *(pytest.param(place, marks=pytest.mark.long) for place in AS_ELSEWHERE)],
)
def test_a_rebuild_that_dies_is_finished_and_the_index_is_right_meanwhile(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"a.md": 1, "b.md": 1, "gone.md": 1})
    name = make_pipeline()
    sync(name)
    assert victim.sync(name, place=place, run="rebuild") == -signal.SIGKILL
    put(bucket, {"a.md": 2})
    bucket.delete("gone.md")
    # Whichever generation the alias points at, schedules and events keep it right, and the pipeline follows it.
    report = sync(name)
    assert report.collection == f"{name}_g000{1 + (place in SWAP[1:])}"
    assert load_pipeline(name).settings.embed_heading is (report.collection == f"{name}_g0001")
    assert held(name) == expected({"a.md": 2, "b.md": 1})
    assert audit(name).consistent
    # A rebuild goes on with what was begun; when that was promoted already, it makes another.
    done = rebuild(name, Settings(embed_heading=False))
    assert done.collection == f"{name}_g000{2 + (place in SWAP[1:])}"
    assert held(name) == expected({"a.md": 2, "b.md": 1})
    assert audit(name).consistent
    assert sync(name).chunks_embedded == 0


@pytest.mark.parametrize("place", CANARY)
def test_a_canary_that_dies_goes_on(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"a.md": 1, "gone.md": 1})
    name = make_pipeline(canary_questions=0)
    sync(name)
    rebuild(name, Settings(embed_heading=False, canary_questions=0), promote="manual")
    assert victim.sync(name, place=place, run="canary") == -signal.SIGKILL
    block = load_pipeline(name)
    going = canary_of(Database(block.ledger), block.alias)
    assert going is not None
    assert going.share == (50 if place == "canary begun" else 100)
    bucket.delete("gone.md")
    assert sync(name).collection == f"{name}_g0001"
    assert promote(name).promoted  # from the step where it was
    assert [row["state"] for row in overview(name)] == ["live", "retired"]
    assert held(name) == expected({"a.md": 1})
    assert audit(name).consistent


@pytest.mark.parametrize("place", SWAP[1:])
def test_a_rollback_that_dies_is_finished_by_the_next_sync(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, place: CrashPoint
) -> None:
    put(bucket, {"a.md": 1})
    name = make_pipeline()
    sync(name)
    rebuild(name, Settings(embed_heading=False))
    put(bucket, {"a.md": 2})
    assert victim.sync(name, place=place, run="rollback") == -signal.SIGKILL
    assert sync(name).collection == f"{name}_g0001"
    assert load_pipeline(name).settings.embed_heading is True
    assert held(name) == expected({"a.md": 2})
    assert audit(name).consistent


def test_a_collection_of_garbage_that_dies_is_finished_by_the_next(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim
) -> None:
    put(bucket, {"a.md": 1})
    name = make_pipeline(keep_generations=1, keep_hours=0.0)
    sync(name)
    rebuild(name, Settings(embed_heading=False, keep_generations=1, keep_hours=0.0))
    (place,) = GARBAGE
    assert victim.sync(name, place=place, run="collect garbage") == -signal.SIGKILL
    assert [row["number"] for row in overview(name)] == [2, 1]
    assert collect_garbage(name) == [f"{name}_g0001"]
    assert [row["number"] for row in overview(name)] == [2]
    assert audit(name).consistent
