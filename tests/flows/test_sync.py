"""A bucket and its index, kept in step by the real flow over real parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.flow_engine import run_flow
from prefect.states import Pending

from blocks.s3_source import S3Source
from flows.sync import sync
from tasks.bucket.listing import pages
from tasks.errors import FingerprintError, MisuseError, PartError, TransientError
from tasks.indexing.plan import make_plan
from tasks.ledger import lease, quarantine
from tasks.ledger.database import Database
from tasks.ledger.lease import writing
from tasks.ledger.tables import WRITERS
from tasks.milvus.store import Store
from tasks.models import SyncReport
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket, Server, milvus_lite_server

GUIDE = """# Guide

## Install

Run the installer and wait until the green light shows.

## Remove

Unplug the device first, then hold the red button for ten seconds.
"""


def store_of(name: str) -> Store:
    block = load_pipeline(name)
    return Store(block.store, block.alias)


def rows(name: str) -> list[dict[str, Any]]:
    store = store_of(name)
    collection = store.live()
    assert collection is not None
    return list(store.rows(collection, ["id", "key", "text", "etag", "heading", "page", "chunk_index", "metadata"]))


def keys(name: str) -> set[str]:
    return {row["key"] for row in rows(name)}


def leased(ledger: Database, name: str) -> bool:
    with ledger.connected() as connection:
        return connection.scalar(sa.select(WRITERS.c.holder).where(WRITERS.c.collection == name)) is not None


def counts(report: SyncReport) -> tuple[int, int, int, int]:
    return report.new, report.changed, report.deleted, report.unchanged


def test_put_change_rename_delete(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    bucket.put("guide.md", GUIDE, Metadata={"team": "infra"})
    bucket.put("notes/a b#1.txt", "Some notes about the weekly backup of the ledger.")
    name = make_pipeline()

    first = sync(name)
    assert counts(first) == (2, 0, 0, 0)
    assert first.chunks_embedded == len(rows(name)) == 3
    assert first.collection == f"{name}_g0001"
    guide = [row for row in rows(name) if row["key"] == "guide.md"]
    assert sorted(row["heading"] for row in guide) == ["Guide › Install", "Guide › Remove"]
    assert all(row["metadata"] == {"team": "infra"} for row in guide)

    again = sync(name)
    assert counts(again) == (0, 0, 0, 2)
    assert again.chunks_embedded == again.chunks_deleted == 0

    bucket.put("guide.md", GUIDE.replace("ten seconds", "twelve seconds"))
    edited = sync(name)
    assert counts(edited) == (0, 1, 0, 1)
    assert (edited.chunks_embedded, edited.chunks_reused, edited.chunks_deleted) == (1, 1, 1)
    texts = " ".join(row["text"] for row in rows(name))
    assert "twelve" in texts
    assert "ten seconds" not in texts
    assert len({row["etag"] for row in rows(name) if row["key"] == "guide.md"}) == 1

    bucket.put("moved/guide.md", GUIDE.replace("ten seconds", "twelve seconds"))
    bucket.delete("guide.md")
    renamed = sync(name)
    assert counts(renamed) == (1, 0, 1, 1)
    assert (renamed.chunks_embedded, renamed.chunks_reused, renamed.chunks_deleted) == (0, 2, 2)
    assert keys(name) == {"moved/guide.md", "notes/a b#1.txt"}

    bucket.delete("moved/guide.md")
    gone = sync(name)
    assert counts(gone) == (0, 0, 1, 1)
    assert keys(name) == {"notes/a b#1.txt"}


def test_the_same_text_in_many_objects_is_embedded_once(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for number in range(6):
        bucket.put(f"copy-{number}.txt", "The licence of this text is the same in every file of the bucket.")
    report = sync(make_pipeline(batch_objects=2))
    assert (report.chunks_embedded, report.chunks_reused) == (1, 5)


def test_many_batches_and_waves_index_everything(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for number in range(23):
        bucket.put(f"n/{number:03d}.txt", f"Object number {number} speaks about topic {number * 7919}.")
    name = make_pipeline(batch_objects=3, wave_batches=2)
    report = sync(name)
    assert report.new == 23
    assert len(keys(name)) == 23
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(report.flow_run_id)
        assert run.name == f"sync {name}_g0001: +23 ~0 -0"


BAD = {
    "empty.txt": (b"", "empty"),
    "broken.pdf": (b"%PDF-1.4 and then nothing that a PDF has", "PDF"),
    "not-a.docx": (b"just words", "DOCX"),
    "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), ".png"),
    "bytes.txt": (bytes(range(1, 32)) * 50 + b"\xff\xfe\xfd", ""),
}


def test_what_cannot_be_indexed_is_quarantined_and_stops_nothing(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("good.md", GUIDE)
    bucket.put("big.txt", "x" * 5000)
    for key, (body, _) in BAD.items():
        bucket.put(key, body)
    name = make_pipeline(source={"max_bytes": 4000})
    report = sync(name)
    assert report.new == len(BAD) + 2
    assert report.quarantined == len(BAD) + 1
    assert keys(name) == {"good.md"}
    block = load_pipeline(name)
    reasons = {row["key"]: row["reason"] for row in quarantine.quarantined(Database(block.ledger), report.collection)}
    assert reasons.keys() == BAD.keys() | {"big.txt"}
    assert "5,000 bytes" in reasons["big.txt"]
    for key, (_, word) in BAD.items():
        assert word in reasons[key]

    assert sync(name).unchanged == len(BAD) + 2
    for key in BAD:
        bucket.put(key, "%PDF" if key.endswith("pdf") else f"now {key} holds words that can be read")
    healed = sync(name)
    assert healed.changed == len(BAD)
    assert healed.quarantined < report.quarantined
    assert {"empty.txt", "bytes.txt"} <= keys(name)


def test_the_last_good_version_stays_when_the_new_one_cannot_be_read(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("guide.txt", "The last good version says: turn the valve to the left.")
    name = make_pipeline()
    sync(name)
    bucket.put("guide.txt", b"\x00\x01\x02\x03" * 100)
    report = sync(name)
    assert (report.changed, report.quarantined) == (1, 1)
    assert [row["text"] for row in rows(name)] == ["The last good version says: turn the valve to the left."]


STRANGE = [
    "with space.txt", "plus+and&amp.txt", "hash#and%25percent.txt", "ünï/çødé/日本語.txt", "emoji-😀.txt",
    'quote".txt', "apostrophe's.txt", 'a" or key != ".txt', "back\\slash.txt",
    "/".join(["d" * 200] * 5) + "/" + "f" * 15 + ".txt",
]  # fmt: skip


def test_strange_keys(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for number, key in enumerate(STRANGE):
        assert len(key.encode()) <= 1024
        bucket.put(key, f"This is document number {number}, whose key is strange.")
    name = make_pipeline()
    assert sync(name).new == len(STRANGE)
    assert keys(name) == set(STRANGE)
    bucket.delete(STRANGE[7])
    assert sync(name).chunks_deleted == 1
    assert keys(name) == set(STRANGE) - {STRANGE[7]}


def test_globs_and_prefix_decide_what_is_indexed(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for key in ("docs/a.md", "docs/b.txt", "docs/drafts/c.md", "other/d.md"):
        bucket.put(key, f"# {key}\n\nSome text about {key} that can be found.")
    name = make_pipeline(source={"prefix": "docs/", "include": ["*.md"], "exclude": ["docs/drafts/*"]})
    sync(name)
    assert keys(name) == {"docs/a.md"}


def test_other_settings_are_refused_and_nothing_changes(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    bucket.put("guide.md", GUIDE)
    name = make_pipeline()
    sync(name)
    before = rows(name)
    make_pipeline(chunk_tokens=64)
    with pytest.raises(FingerprintError, match="chunk_tokens: 96 → 64"):
        sync(name)
    assert rows(name) == before


def test_a_run_that_died_is_finished_by_the_next(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a.md", GUIDE)
    bucket.put("b.txt", "Another object that was there before the run died.")
    name = make_pipeline()

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("tasks.indexing.steps.confirm_indexed", die)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - however Prefect words it
            sync(name)
    assert store_of(name).live() is None  # half a first index answers nothing
    bucket.delete("b.txt")
    bucket.put("a.md", GUIDE.replace("green", "blue"))
    report = sync(name)
    assert report.deleted == 1
    assert report.chunks_embedded == 1
    assert keys(name) == {"a.md"}
    assert sync(name).unchanged == 1


def test_a_lost_ledger_is_made_again_from_the_bucket(
    make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Any
) -> None:
    bucket.put("a.md", GUIDE)
    bucket.put("gone.txt", "This object is deleted while nobody remembers it.")
    name = make_pipeline()
    sync(name)
    bucket.delete("gone.txt")
    make_pipeline(ledger=f"sqlite:///{tmp_path / 'another.db'}")
    report = sync(name)
    assert (report.chunks_embedded, report.chunks_reused) == (0, 2)
    assert keys(name) == {"a.md"}


def test_two_syncs_at_once_do_not_interleave(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    bucket.put("a.md", GUIDE)
    name = make_pipeline(wait_for_writer_seconds=0.5)
    collection = sync(name).collection
    ledger = Database(load_pipeline(name).ledger)
    with (
        writing(ledger, collection, "another sync", 1, print),
        pytest.raises(TransientError, match="being written by another sync"),
    ):
        sync(name)
    assert sync(name).unchanged == 1


def test_of_the_runs_of_a_deployment_one_writes_one_waits_and_the_others_leave(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("a.md", GUIDE)
    name = make_pipeline(wait_for_writer_seconds=0.5)
    collection = sync(name).collection
    ledger, states = Database(load_pipeline(name).ledger), {}
    with get_client(sync_client=True) as client:
        deployed = client.create_deployment(client.create_flow_from_name("sync"), name)

        def run(which: str, **consent: bool) -> None:
            given = {"pipeline": name, **consent}
            of_it = client.create_flow_run_from_deployment(deployed, parameters=given, state=Pending())
            states[which] = run_flow(sync, of_it, parameters=given, return_type="state")

        waiting = threading.Thread(target=run, args=["first"])
        with writing(ledger, collection, "a long sync", 1, print):
            waiting.start()
            until = time.monotonic() + 30
            while not leased(ledger, lease.line_of(name)):  # a look that took the lease would send the run away
                assert time.monotonic() < until
                time.sleep(0.05)
            bucket.put("b.txt", "Something that came while one wrote and another waited.")
            run("second")
            assert (states["second"].type, states["second"].name) == (StateType.COMPLETED, "Skipped")
            run("a person's yes", allow_deletions=True)
            assert states["a person's yes"].type == StateType.FAILED, "it is not taken for done"
            time.sleep(1)  # longer than a person waits
            assert waiting.is_alive()
        waiting.join(60)
    assert states["first"].result().new == 1
    assert keys(name) == {"a.md", "b.txt"}


@pytest.mark.parametrize(("list_ranges", "cuts"), [(1, []), (2, ["2.txt", "5.txt"])])
def test_a_large_bucket_is_listed_in_ranges_of_what_the_ledger_knows(
    make_pipeline: Callable[..., str],
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    list_ranges: int,
    cuts: list[str],
) -> None:
    given: list[Any] = []

    def noting(*arguments: Any) -> Any:
        given.append(arguments[3:])
        return pages(*arguments)

    monkeypatch.setattr("tasks.indexing.plan.pages", noting)
    monkeypatch.setattr("tasks.indexing.plan.RANGE_KEYS", 3)
    for number in range(8):
        bucket.put(f"{number}.txt", f"The text of number {number}.")
    name = make_pipeline(list_ranges=list_ranges)
    sync(name)
    bucket.delete("5.txt")
    bucket.put("3.txt", "Another text of number 3.")
    bucket.put("8.txt", "The text of number 8.")
    assert counts(sync(name)) == (1, 1, 1, 6)
    assert given == [([], list_ranges), (cuts, list_ranges)]
    assert keys(name) == {f"{number}.txt" for number in (0, 1, 2, 3, 4, 6, 7, 8)}


@pytest.mark.parametrize("refused", [False, True])
def test_the_line_is_free_before_the_bucket_is_listed(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Else who comes while it lists is sent away, and what it came for is seen by nobody. Also when it only deletes."""
    for number in range(4):
        bucket.put(f"{number}.txt", f"The text of number {number}.")
    name = make_pipeline()
    sync(name)
    if refused:
        make_pipeline(embed_heading=False)
    bucket.delete("0.txt")
    ledger, taken = Database(load_pipeline(name).ledger), []

    def listed(*given: Any, **options: Any) -> Any:
        taken.append(leased(ledger, lease.line_of(name)))
        return make_plan(*given, **options)

    monkeypatch.setattr("tasks.indexing.plan.make_plan", listed)
    with get_client(sync_client=True) as client:
        deployed = client.create_deployment(client.create_flow_from_name("sync"), name)
        of_it = client.create_flow_run_from_deployment(deployed, parameters={"pipeline": name}, state=Pending())
        state = run_flow(sync, of_it, parameters={"pipeline": name}, return_type="state")
    assert state.type == (StateType.FAILED if refused else StateType.COMPLETED)
    assert taken == [False]
    assert keys(name) == {"1.txt", "2.txt", "3.txt"}


def test_a_restarted_milvus_goes_on_where_it_was(
    make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Path
) -> None:
    server = milvus_lite_server(tmp_path).start()
    try:
        bucket.put("a.md", GUIDE)
        name = make_pipeline(milvus=server.url)
        sync(name)
        server.stop()
        server.start()
        bucket.put("b.txt", "Something that came after the restart of the server.")
        report = sync(name)
        assert counts(report) == (1, 0, 0, 1)
        assert keys(name) == {"a.md", "b.txt"}
    finally:
        server.stop()


def test_parts_that_cannot_be_used_are_named(make_pipeline: Callable[..., str]) -> None:
    from prefect_aws import AwsCredentials

    with pytest.raises(PartError, match=r"no bucket 'no-such-bucket'.*BUCKET"):
        sync(make_pipeline(source={"bucket": "no-such-bucket"}))
    wrong = AwsCredentials(aws_access_key_id="wrong", aws_secret_access_key="wrong", region_name="us-east-1")
    with pytest.raises(PartError, match="AWS_ACCESS_KEY_ID"):
        sync(make_pipeline(source={"credentials": wrong}))
    with pytest.raises(TransientError, match="MILVUS_URI"):
        sync(make_pipeline(milvus="http://127.0.0.1:9"))
    with pytest.raises(PartError, match=r"'no-such-model' does not load.*EMBED_MODEL_NAME"):
        sync(make_pipeline(embedder={"model_name": "no-such-model"}, name="nomodel", alias="nomodel"))
    with pytest.raises(MisuseError, match="no pipeline 'never-saved'"):
        sync("never-saved")


def test_what_was_set_in_the_ui_stays_when_the_pipeline_is_saved_again(make_pipeline: Callable[..., str]) -> None:
    name = make_pipeline()
    block = S3Source.load(name)
    block.max_bytes = 1234
    block.save(name, overwrite=True)
    make_pipeline(top_k=3)
    saved = load_pipeline(name)
    assert (saved.source.max_bytes, saved.settings.top_k) == (1234, 3)


def test_a_server_without_bm25_is_said_to_search_dense_only(
    make_pipeline: Callable[..., str], milvus_server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("a.md", GUIDE)
    sync(make_pipeline(milvus=milvus_server.url))
    lines = [line for line in caplog.messages if "dense only" in line]
    assert len(lines) == 1
    assert "no BM25" in lines[0]
