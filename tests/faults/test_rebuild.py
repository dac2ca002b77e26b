"""Build a generation beside the live one, check it, swap it in, and go back: on both servers."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from blocks.embedder import Embedder
from blocks.settings import Settings
from flows.audit import audit
from flows.collect_garbage import collect_garbage
from flows.promote import promote
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.embedding.together import Together
from tasks.errors import FingerprintError, MisuseError, PartError, TransientError
from tasks.generations.overview import overview
from tasks.ledger.lease import next_of, writing
from tasks.ledger.objects import count_objects
from tasks.ledger.tables import GENERATIONS
from tasks.pipelines import load_pipeline
from tests.support.generations import TOPICS, document, found, opened, states
from tests.support.servers import Bucket


def test_other_settings_are_refused_by_a_sync_and_built_by_a_rebuild(name: str, bucket: Bucket) -> None:
    wider = Settings(embed_heading=False)
    with pytest.raises(FingerprintError, match=r"embed_heading: True → False.*lockstep rebuild"):
        sync(name, wider)
    done = rebuild(name, wider)
    assert (done.collection, done.before, done.state, done.promoted) == (f"{name}_g0002", f"{name}_g0001", "live", True)
    assert done.chunks_embedded == 48
    assert all(gate["passed"] for gate in done.gates)
    assert {"recall@10 of the index", "p95 latency / live", "chunks that differ"} <= {
        gate["name"] for gate in done.gates
    }
    assert states(name) == {1: "retired", 2: "live"}
    # The saved pipeline follows, so the next sync, event or schedule, goes on with the new settings.
    assert load_pipeline(name).settings.embed_heading is False
    assert sync(name).unchanged == len(TOPICS)
    assert found(name).collection == done.collection
    assert audit(name).consistent


def test_another_index_embeds_nothing(name: str) -> None:
    done = rebuild(name, Settings(index_type="IVF_FLAT", index_params={"nlist": 4}))
    assert (done.chunks_embedded, done.chunks_reused) == (0, 48)
    store, _ = opened(name)
    assert store.client.describe_index(done.collection, "embedding")["index_type"] == "IVF_FLAT"
    assert found(name).hits[0].key == "clouds.md"
    again = rebuild(name, Settings(index_type="HNSW"))
    assert (again.collection, again.chunks_embedded) == (f"{name}_g0003", 0)


def test_an_index_that_the_server_has_not_is_refused_before_anything_is_made(name: str) -> None:
    for settings in (Settings(index_type="HSNW"), Settings(index_params={"nlist": 3})):
        with pytest.raises(MisuseError, match="HNSW"):
            rebuild(name, settings)
    assert states(name) == {1: "live"}


def test_a_rollback_answers_from_the_old_generation_and_syncs_what_it_missed(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(embed_heading=False))
    bucket.put("new.md", document("volcanoes"))
    bucket.delete("apples.md")
    sync(name)
    done = rollback(name)
    assert (done.collection, done.before) == (f"{name}_g0001", f"{name}_g0002")
    assert states(name) == {1: "live", 2: "retired"}
    assert load_pipeline(name).settings.embed_heading is True
    assert found(name, "What is told of volcanoes?").hits[0].key == "new.md"
    assert audit(name).consistent
    assert audit(name).objects == len(TOPICS)
    forth = rollback(name)
    assert forth.collection == f"{name}_g0002"
    with pytest.raises(MisuseError, match="it has 2, 1"):
        rollback(name, to=7)


def test_nothing_to_promote_and_nothing_to_go_back_to(name: str) -> None:
    with pytest.raises(MisuseError, match="lockstep rebuild"):
        promote(name)
    with pytest.raises(MisuseError, match="nothing to roll back to"):
        rollback(name)
    with pytest.raises(MisuseError, match="not ready"):
        promote(name, generation=1)
    assert states(name) == {1: "live"}


def test_a_generation_waits_for_a_person_when_that_is_asked_for(name: str, bucket: Bucket) -> None:
    done = rebuild(name, Settings(embed_heading=False), promote="manual")
    assert (done.state, done.promoted) == ("ready", False)
    assert found(name).collection == f"{name}_g0001"
    assert load_pipeline(name).settings.embed_heading is True
    bucket.put("late.md", document("lagoons"))
    assert sync(name).collection == f"{name}_g0001"
    # A rebuild with the same settings goes on with it: it catches up and embeds what is new alone.
    again = rebuild(name, Settings(embed_heading=False), promote="manual")
    assert (again.collection, again.chunks_embedded) == (done.collection, 6)
    assert promote(name).collection == done.collection
    assert audit(name).consistent


def test_one_rebuild_at_a_time(name: str) -> None:
    _, ledger = opened(name)
    with (
        writing(ledger, f"the next generation of '{name}'", "a rebuild (of another)", 0, lambda _: None),
        pytest.raises(TransientError, match=r"next generation of .* a rebuild \(of another\)"),
    ):
        rebuild(name, Settings(embed_heading=False))
    assert states(name) == {1: "live"}


def test_a_rebuild_waits_for_garbage_to_be_collected_before_its_promotion(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between building and promoting, for a moment, the lease is anybody's. Who calls `promote` is told at once."""
    _, ledger = opened(name)
    held, done = threading.Event(), threading.Event()
    refused = []

    def collect() -> None:
        with writing(ledger, next_of(name), "garbage collection (of another)", 0, lambda _: None):
            held.set()
            assert done.wait(60)

    def promote_meanwhile(*given: Any, **options: Any) -> Any:
        collector = threading.Thread(target=collect)
        collector.start()
        assert held.wait(60)
        with pytest.raises(TransientError, match=r"garbage collection \(of another\)") as caught:
            promote(name)
        refused.append(caught.value)
        threading.Timer(2, done.set).start()
        try:
            return promote(*given, **options)
        finally:
            done.set()
            collector.join()

    monkeypatch.setattr("flows.rebuild.promote_it", promote_meanwhile)
    assert rebuild(name, Settings(embed_heading=False)).promoted
    assert len(refused) == 1
    assert states(name) == {1: "retired", 2: "live"}


def test_the_live_generation_is_synced_while_the_next_is_measured(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.evaluation import gates

    rebuild(name, Settings(embed_heading=False), promote="manual")
    measure, synced = gates.measure, list[str]()

    def meanwhile(*given: Any) -> Any:
        bucket.put("late.md", document("lagoons"))
        synced.append(sync(name).collection)
        return measure(*given)

    monkeypatch.setattr(gates, "measure", meanwhile)
    promote(name)
    assert set(synced) == {f"{name}_g0001"}  # a measurement that a passing error ended is begun anew
    # What came meanwhile is there when the promotion ends.
    assert audit(name).consistent
    assert audit(name).objects == len(TOPICS) + 1


def test_what_was_deleted_since_a_generation_was_ready_does_not_come_back(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(embed_heading=False), promote="manual")
    bucket.delete("clouds.md")
    bucket.put("late.md", document("lagoons"))
    sync(name)
    promote(name)
    assert "clouds.md" not in {hit.key for hit in found(name).hits}
    assert audit(name).consistent
    assert audit(name).objects == len(TOPICS)


def test_a_file_that_nobody_can_read_does_not_stop_a_promotion(name: str, bucket: Bucket) -> None:
    bucket.put("bad.pdf", b"%PDF-1.4 and nothing else")
    done = rebuild(name, Settings(embed_heading=False))
    assert done.promoted
    assert overview(name)[0]["quarantined"] == 1


@pytest.mark.parametrize("then", [rollback, collect_garbage])
def test_a_swap_that_died_is_finished_by_whoever_comes_next(name: str, then: Callable[[str], Any]) -> None:
    rebuild(name, Settings(embed_heading=False))
    rebuild(name, Settings(embed_heading=True, index_type="FLAT"), promote="manual")
    store, ledger = opened(name)
    with ledger.transaction() as connection:
        # Live for long, and ended long ago: what the retention looks at.
        connection.execute(sa.update(GENERATIONS).values(created_at=1_600_000_000_000))
        first = GENERATIONS.c.collection == f"{name}_g0001"
        connection.execute(sa.update(GENERATIONS).where(first).values(retired_at=1_600_000_000_000))
    store.point_alias(f"{name}_g0003")  # and there it died
    done = then(name)
    if then is rollback:
        assert done.collection == f"{name}_g0002"
    else:
        assert done == [f"{name}_g0001"]
        assert states(name) == {2: "retired", 3: "live"}
        assert load_pipeline(name).settings.index_type == "FLAT"
    assert audit(name).consistent


def test_a_model_that_does_not_load_leaves_nothing_behind(name: str) -> None:
    with pytest.raises(PartError, match="/nowhere"):
        rebuild(name, embed_model="/nowhere")
    assert states(name) == {1: "live"}


def test_another_model_embeds_anew_and_answers_questions(name: str, tmp_path: Path) -> None:
    """The same weights under another name: to Lockstep another model, whose vectors are not shared."""
    shutil.copytree(Embedder().location(), tmp_path / "other-model")
    done = rebuild(name, embed_model=str(tmp_path / "other-model"))
    assert (done.chunks_embedded, done.chunks_reused) == (48, 0)
    assert load_pipeline(name).embedder.model_name == str(tmp_path / "other-model")
    assert found(name).hits[0].key == "clouds.md"
    assert sync(name).unchanged == len(TOPICS)
    back = rollback(name)
    assert back.chunks_embedded == 0
    assert load_pipeline(name).embedder.model_name == Embedder().model_name


def test_a_question_is_embedded_as_the_generation_that_answers_was_built(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("clouds.md", document("clouds"))
    name = make_pipeline(embedder={"query_prompt": "first: "})
    sync(name)
    make_pipeline(embedder={"query_prompt": "second: "})  # not rebuilt yet
    prompts: list[str] = []
    submit = Together.submit

    def noting(self: Together, questions: Any, prompt: str) -> Any:
        prompts.append(prompt)
        return submit(self, questions, prompt)

    monkeypatch.setattr(Together, "submit", noting)
    assert found(name).hits
    assert prompts == ["first: "]
    rebuild(name)
    prompts.clear()
    assert found(name).hits
    assert prompts == ["second: "]


def test_old_generations_are_dropped_and_the_way_back_is_kept(name: str) -> None:
    for heading in (False, True):
        rebuild(name, Settings(embed_heading=heading))
    assert collect_garbage(name) == []  # they were live a minute ago
    _, ledger = opened(name)
    with ledger.transaction() as connection:
        connection.execute(sa.update(GENERATIONS).where(GENERATIONS.c.retired_at.is_not(None)).values(
            retired_at=GENERATIONS.c.retired_at - 25 * 3_600_000
        ))  # fmt: skip
    assert collect_garbage(name) == [f"{name}_g0001"]
    assert states(name) == {2: "retired", 3: "live"}
    store, ledger = opened(name)
    assert not store.exists(f"{name}_g0001")
    assert count_objects(ledger, f"{name}_g0001") == {"chunks": 0}
    assert rollback(name).collection == f"{name}_g0002"


@pytest.mark.timeout(900)
def test_no_question_fails_or_mixes_while_the_alias_goes_back_and_forth(name: str) -> None:
    """Ten swaps under twenty asking threads; each answer is of one generation, whole."""
    rebuild(name, Settings(embed_heading=False))
    held = {}
    store, _ = opened(name)
    for collection in (f"{name}_g0001", f"{name}_g0002"):
        held[collection] = {row["id"] for row in store.rows(collection, ["id"])}
    assert not held[f"{name}_g0001"] & held[f"{name}_g0002"]
    held[f"{name}_g0003"] = held[f"{name}_g0001"] | held[f"{name}_g0002"]
    done, failures, asked = threading.Event(), list[str](), list[str]()

    def ask() -> None:
        while not done.is_set():
            try:
                one = found(name, "What is told of clouds?")
                asked.append(one.collection)
                strangers = [hit.chunk_id for hit in one.hits if hit.chunk_id not in held[one.collection]]
                if strangers or not one.hits:
                    failures.append(f"{one.collection}: {len(one.hits)} hits, {len(strangers)} of another")
            except Exception as error:
                failures.append(repr(error))
            time.sleep(1)  # twenty that never pause leave two cores no time to swap

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    swaps = 0
    while swaps < 10 or time.monotonic() - began < 30:
        rollback(name)
        swaps += 1
    # And with everything that a promotion does, and a collection dropped that somebody may be searching.
    now = load_pipeline(name).settings
    assert rebuild(name, now.model_copy(update={"index_type": "FLAT"})).collection == f"{name}_g0003"
    store.drop(f"{name}_g0001")
    time.sleep(2)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(asked) == set(held)
    assert len(asked) > 100
