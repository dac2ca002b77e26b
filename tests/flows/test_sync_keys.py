"""A sync of some keys does for them what a sync of the whole bucket does, and leaves everything else alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

from blocks.settings import Settings
from flows.audit import audit
from flows.sync import sync
from tasks.bucket.fetch import head
from tasks.errors import DeletionError, FingerprintError, PartError, TransientError, WithheldError
from tasks.ledger.canary import Canary, begin_canary
from tasks.ledger.changes import WHOLE_BUCKET, record_changes, waiting_changes
from tasks.ledger.database import Database, now
from tasks.ledger.lease import watch_of, writing
from tasks.ledger.objects import object_rows
from tasks.milvus.schema import physical
from tasks.milvus.store import Store
from tasks.models import ObjectRef, SyncReport
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket

TOPICS = ("ash", "birch", "cedar", "elm", "fir", "oak")


def guide(topic: str, more: str = "") -> str:
    return f"# The {topic}\n\nThe {topic} is a tree of its own kind.{more}\n"


def held(name: str, number: int = 1) -> dict[str, str]:
    """The text that answers, by key; every object here has one chunk."""
    block = load_pipeline(name)
    with Store(block.store, block.alias) as store:
        rows = list(store.rows(physical(block.alias, number), ["key", "text"]))
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["text"] for row in rows}


def counts(report: SyncReport) -> tuple[int, int, int, int]:
    return report.new, report.changed, report.deleted, report.unchanged


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    for topic in TOPICS:
        bucket.put(f"{topic}.md", guide(topic))
    made = make_pipeline()
    sync(made)
    return made


def test_a_new_a_changed_a_deleted_and_an_untouched_key(name: str, bucket: Bucket) -> None:
    bucket.put("yew.md", guide("yew"))
    bucket.put("ash.md", guide("ash", " It is grey."))
    bucket.delete("oak.md")
    bucket.put("elm.md", guide("elm", " Nobody told of this change."))
    report = sync(name, keys=["yew.md", "ash.md", "oak.md", "birch.md", "never.md", "yew.md"])
    assert counts(report) == (1, 1, 1, 1)
    assert report.chunks_deleted == 2
    answering = held(name)
    assert set(answering) == {"ash.md", "birch.md", "cedar.md", "elm.md", "fir.md", "yew.md"}
    assert "grey" in answering["ash.md"]
    assert "Nobody" not in answering["elm.md"]
    assert counts(sync(name)) == (0, 1, 0, 5), "the listing finds what nobody told of"
    assert audit(name).consistent


def test_a_rename_within_the_keys_embeds_nothing(name: str, bucket: Bucket) -> None:
    bucket.delete("oak.md")
    bucket.put("trees/oak.md", guide("oak"))
    report = sync(name, keys=["oak.md", "trees/oak.md"])
    assert (counts(report), report.chunks_embedded, report.chunks_reused) == ((1, 0, 1, 0), 0, 1)
    assert audit(name).consistent


def test_keys_that_the_pipeline_does_not_index_are_left_alone(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("docs/a.md", guide("ash"))
    name = make_pipeline({"prefix": "docs/", "exclude": ["*.tmp"]})
    sync(name)
    bucket.put("docs/b.tmp", guide("birch"))
    bucket.put("other/c.md", guide("cedar"))
    bucket.put("docs/d.md", guide("elm"))
    report = sync(name, keys=["docs/b.tmp", "other/c.md", "docs/", "docs/d.md"])
    assert counts(report) == (1, 0, 0, 0)
    assert set(held(name)) == {"docs/a.md", "docs/d.md"}


def test_work_for_other_keys_is_left_to_the_whole_sync(name: str, bucket: Bucket) -> None:
    block = load_pipeline(name)
    bucket.put("fir.md", guide("fir", " It is tall."))
    with Database(block.ledger) as ledger:
        from tasks.ledger.objects import record_deletions, record_wanted

        wanted = head(bucket.client, block.source, "fir.md")
        record_wanted(ledger, physical(name, 1), [wanted], "a run that died")
        record_deletions(ledger, physical(name, 1), ["cedar.md"], "a run that died")
    assert counts(sync(name, keys=["ash.md"])) == (0, 0, 0, 1)
    assert "tall" not in held(name)["fir.md"]
    assert "cedar.md" in held(name)
    assert counts(sync(name, keys=["fir.md", "cedar.md"])) == (0, 2, 0, 0)
    assert "tall" in held(name)["fir.md"]
    assert audit(name).consistent


def test_a_file_that_cannot_be_read_is_quarantined(name: str, bucket: Bucket) -> None:
    bucket.put("ash.md", b"\x00\x01\x02\x03" * 50)
    report = sync(name, keys=["ash.md", "elm.md"])
    assert report.quarantined == 1
    assert "tree" in held(name)["ash.md"], "its last good version answers"
    bucket.put("ash.md", guide("ash", " It is whole."))
    assert counts(sync(name, keys=["ash.md"])) == (0, 1, 0, 0)
    assert audit(name).consistent


def test_a_bucket_that_is_not_there_deletes_nothing(name: str, bucket: Bucket) -> None:
    for topic in TOPICS:
        bucket.delete(f"{topic}.md")
    bucket.client.delete_bucket(Bucket=bucket.name)
    with pytest.raises(PartError, match="there is no bucket"):
        sync(name, keys=["ash.md"])
    assert len(held(name)) == len(TOPICS)


def test_too_many_deletions_are_left_to_the_listing(name: str, bucket: Bucket) -> None:
    for topic in TOPICS:
        bucket.delete(f"{topic}.md")
    report = sync(name, keys=[f"{topic}.md" for topic in TOPICS])
    assert report.deleted == 0
    assert len(held(name)) == len(TOPICS)
    for topic in TOPICS:  # moved, not lost
        bucket.put(f"trees/{topic}.md", guide(topic))
    report = sync(name, keys=[f"{folder}{topic}.md" for folder in ("", "trees/") for topic in TOPICS])
    assert (counts(report), report.chunks_embedded) == ((6, 0, 6, 0), 0)
    assert audit(name).consistent


def test_a_key_that_the_bucket_says_nothing_of_is_left_to_the_listing(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(client: object, source: object, key: str) -> ObjectRef:
        if key == "ash.md":
            raise WithheldError("the bucket does not hand it out (403)")
        return head(client, source, key)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.indexing.plan_keys.head", denied)
    bucket.put("elm.md", guide("elm", " It is old."))
    assert counts(sync(name, keys=["ash.md", "elm.md"])) == (0, 1, 0, 0)
    assert set(held(name)) == {f"{topic}.md" for topic in TOPICS}


def test_before_the_first_sync_the_whole_bucket_is_taken(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for topic in TOPICS:
        bucket.put(f"{topic}.md", guide(topic))
    name = make_pipeline()
    assert counts(sync(name, keys=["ash.md"])) == (6, 0, 0, 0)
    assert len(held(name)) == len(TOPICS)


def test_other_settings_are_refused_but_deletions_are_carried_out(name: str, bucket: Bucket) -> None:
    bucket.delete("oak.md")
    bucket.put("ash.md", guide("ash", " It is grey."))
    with pytest.raises(FingerprintError):
        sync(name, Settings(chunk_tokens=99), keys=["oak.md", "ash.md"])
    assert "oak.md" not in held(name)
    assert "grey" not in held(name)["ash.md"]


def test_the_generation_in_canary_gets_the_keys_too(name: str, bucket: Bucket) -> None:
    from flows.rebuild import rebuild

    rebuild(name, Settings(embed_heading=False), promote="manual")
    block = load_pipeline(name)
    with Database(block.ledger) as ledger:
        begin_canary(ledger, Canary(name, physical(name, 2), physical(name, 1), (50,), 0, 900.0, now()))
    bucket.put("yew.md", guide("yew"))
    bucket.delete("oak.md")
    sync(name, keys=["yew.md", "oak.md"])
    for number in (1, 2):
        assert "yew.md" in held(name, number)
        assert "oak.md" not in held(name, number)


def test_a_long_sync_serves_waiting_keys_between_two_waves(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = load_pipeline(name)
    for number in range(6):
        bucket.put(f"more/{number}.md", guide(f"tree {number}"))
    seen: list[bool] = []

    def told(ledger: Database, collection: str, keys: list[str]) -> None:
        rows = object_rows(ledger, collection, keys)
        seen.append(all(rows[key].state == "indexed" for key in keys))

    from flows import work

    run_wave = work.run_wave

    def slow(stage: str, number: int, wave: work.Wave) -> None:
        if stage == "written" and number == 1:
            bucket.put("late.md", guide("late tree"))
            with Database(block.ledger) as ledger:
                record_changes(ledger, name, ["late.md"])
        if stage == "written" and number == 2:
            told(wave.resources.ledger, wave.collection, ["late.md"])
            seen.append("more/5.md" not in held(name))
        run_wave(stage, number, wave)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "run_wave", slow)
    with (
        Database(block.ledger) as ledger,
        writing(ledger, watch_of(name), "a watcher", 0, lambda _line: None),
    ):
        sync(name, Settings(**{**block.settings.model_dump(), "batch_objects": 1}))
        assert waiting_changes(ledger, name, 10) == []
    assert seen == [True, True]
    assert audit(name).consistent


def watched(ledger: Database, name: str) -> AbstractContextManager[object]:
    return writing(ledger, watch_of(name), "a watcher", 0, lambda _line: None)


def when(monkeypatch: pytest.MonkeyPatch, stage: str, wave: int, happens: Callable[[], None]) -> None:
    """Have something happen in the middle of a whole sync: before this wave of this stage."""
    from flows import work

    run_wave = work.run_wave

    def run(of_stage: str, number: int, work_of_wave: work.Wave) -> None:
        if (of_stage, number) == (stage, wave):
            happens()
        run_wave(of_stage, number, work_of_wave)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "run_wave", run)


def one_by_one(name: str) -> Settings:
    return Settings(**{**load_pipeline(name).settings.model_dump(), "batch_objects": 1, "wave_batches": 1})


def test_what_came_back_and_was_served_in_between_is_not_deleted_with_what_was_read_before(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = load_pipeline(name)
    for topic in ("ash", "cedar", "oak"):
        bucket.delete(f"{topic}.md")
    with Database(block.ledger) as ledger, watched(ledger, name):

        def back() -> None:
            bucket.put("oak.md", guide("oak", " It came back."))
            record_changes(ledger, name, ["oak.md"])

        when(monkeypatch, "deleted", 1, back)
        sync(name, one_by_one(name), allow_deletions=True)
        assert waiting_changes(ledger, name, 10) == []
    assert "came back" in held(name)["oak.md"]
    assert audit(name).consistent


def test_what_was_deleted_and_served_in_between_is_not_written_with_what_was_read_before(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = load_pipeline(name)
    for number in range(3):
        bucket.put(f"{number}.md", guide(f"tree {number}"))
    with Database(block.ledger) as ledger, watched(ledger, name):

        def gone() -> None:
            bucket.delete("2.md")
            record_changes(ledger, name, ["2.md"])

        when(monkeypatch, "written", 1, gone)
        sync(name, one_by_one(name))
    assert "2.md" not in held(name)
    assert audit(name).consistent


def test_what_goes_wrong_with_keys_in_between_stops_no_whole_sync(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = load_pipeline(name)
    for number in range(3):
        bucket.put(f"{number}.md", guide(f"tree {number}"))
    with Database(block.ledger) as ledger, watched(ledger, name):

        def broken() -> None:
            for number in range(6):
                bucket.put(f"broken-{number}.md", b"\x00\x01\x02\x03" * 50)
            record_changes(ledger, name, [f"broken-{number}.md" for number in range(6)])

        when(monkeypatch, "written", 1, broken)
        assert sync(name, one_by_one(name)).new == 3
        assert len(waiting_changes(ledger, name, 10)) == 6, "they are left to the watcher"
    assert {"0.md", "1.md", "2.md"} <= set(held(name))


def test_the_wish_for_a_listing_is_no_key(name: str, bucket: Bucket) -> None:
    block = load_pipeline(name)
    bucket.put("yew.md", guide("yew"))
    with Database(block.ledger) as ledger, watched(ledger, name):
        record_changes(ledger, name, [WHOLE_BUCKET, "yew.md"])
        sync(name)
        assert [change.key for change in waiting_changes(ledger, name, 10)] == [WHOLE_BUCKET]
    assert counts(sync(name, keys=[WHOLE_BUCKET])) == (0, 0, 0, 0)


def test_a_bucket_that_empties_bit_by_bit_is_an_emptied_bucket(name: str, bucket: Bucket) -> None:
    for topic in TOPICS:
        bucket.delete(f"{topic}.md")
        sync(name, keys=[f"{topic}.md"])
    assert len(held(name)) == 3, "half of a few may go without consent"
    with pytest.raises(DeletionError):
        sync(name)
    assert sync(name, allow_deletions=True).deleted == 3


def test_what_comes_and_goes_is_no_loss(name: str, bucket: Bucket) -> None:
    for number in range(5):
        bucket.put("guest.md", guide(f"guest {number}"))
        sync(name, keys=["guest.md"])
        bucket.delete("guest.md")
        sync(name, keys=["guest.md"])
        assert "guest.md" not in held(name)


def test_a_key_that_the_server_cannot_answer_for_stops_no_other(
    name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(client: object, source: object, key: str) -> ObjectRef:
        if key == "ash.md":
            raise TransientError("S3: bucket answered '500' (500)")
        if key == "elm.md":
            raise KeyError("ContentLength")
        return head(client, source, key)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.indexing.plan_keys.head", odd)
    bucket.put("fir.md", guide("fir", " It is tall."))
    assert counts(sync(name, keys=["ash.md", "elm.md", "fir.md"])) == (0, 1, 0, 0)
    assert len(held(name)) == len(TOPICS)


def test_a_whole_sync_forgets_what_was_named_long_before_it_listed(name: str) -> None:
    import sqlalchemy as sa

    from tasks.ledger.tables import CHANGES

    block = load_pipeline(name)
    with Database(block.ledger) as ledger:
        record_changes(ledger, name, ["ash.md", "elm.md"])
        with ledger.transaction() as connection:
            old = sa.update(CHANGES).where(CHANGES.c.alias == name, CHANGES.c.key == "ash.md")
            connection.execute(old.values(named_at=CHANGES.c.named_at - 120_000))
        sync(name)
        assert [change.key for change in waiting_changes(ledger, name, 10)] == ["elm.md"]


def test_it_leaves_one_run_in_the_history(name: str, bucket: Bucket) -> None:
    bucket.put("yew.md", guide("yew"))
    report = sync(name, keys=["yew.md"])
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(report.flow_run_id)  # type: ignore[arg-type]
        assert run.name == f"sync {name}_g0001: +1 ~0 -0 of 1 keys"
        children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
        assert client.read_flow_runs(flow_run_filter=children) == []
        assert client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run.id]})) == []  # type: ignore[arg-type]


def test_a_listing_that_is_behind_undoes_nothing(name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers list what was there a moment ago."""
    from tasks.bucket.listing import pages

    block = load_pipeline(name)
    before = [list(page) for page in pages(bucket.client, block.source)]
    bucket.put("yew.md", guide("yew"))
    bucket.put("ash.md", guide("ash", " It is grey."))
    bucket.delete("oak.md")
    sync(name, keys=["yew.md", "ash.md", "oak.md"])
    now_held = held(name)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.indexing.plan.pages", lambda *_args, **_more: (page for page in before))
        report = sync(name)
    assert held(name) == now_held
    assert report.deleted == 0
    assert audit(name, sync_first=True).consistent
