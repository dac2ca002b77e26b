"""What is in quarantine can be looked at, tried again, and never answers unmarked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError

from flows.ask import ask
from flows.audit import audit
from flows.sync import sync
from tasks.bucket.errors import s3_errors
from tasks.bucket.fetch import fetch
from tasks.errors import DeletionError, FingerprintError, MisuseError, OutageError
from tasks.indexing.quarantine import contents, release
from tasks.ledger.database import Database
from tasks.ledger.tables import OBJECTS
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import search_all
from tasks.retrieval.question import Question
from tests.support.servers import Bucket

GOOD = "The last good version says: turn the valve to the left."
BROKEN = b"\x00\x01\x02\x03" * 100


@pytest.fixture
def pipeline(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A pipeline of one object with a good version that answers and a broken one in quarantine."""
    bucket.put("valve.txt", GOOD)
    bucket.put("other.txt", "Another text, about the weekly backup of the ledger.")
    name = make_pipeline()
    sync(name)
    bucket.put("valve.txt", BROKEN)
    sync(name)
    return name


def test_an_older_version_answers_and_says_so(pipeline: str, bucket: Bucket) -> None:
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the left" in answer.answer
    assert [citation.outdated for citation in answer.citations if citation.key == "valve.txt"] == [True]
    assert any("valve.txt" in note and "quarantine" in note for note in answer.notes)
    block = load_pipeline(pipeline)
    (found,) = search_all(block, [Question("", "Which way do I turn the valve?")], block.settings)
    assert {hit.key: hit.outdated for hit in found.hits} == {"valve.txt": True, "other.txt": False}

    bucket.put("valve.txt", GOOD.replace("left", "right"))
    sync(pipeline)
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the right" in answer.answer
    assert not any(citation.outdated for citation in answer.citations)
    assert contents(pipeline) == []


def test_a_ledger_that_is_down_does_not_stop_an_answer(pipeline: str, make_pipeline: Callable[..., str]) -> None:
    make_pipeline(ledger="postgresql://a:b@127.0.0.1:9/x")
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the left" in answer.answer
    assert any("these may not be the newest" in note for note in answer.notes)


def test_a_retry_is_for_the_next_sync(pipeline: str) -> None:
    (row,) = contents(pipeline)
    assert (row["key"], row["attempts"], row["older_version_answers"]) == ("valve.txt", 1, True)
    assert "binary" in row["reason"] or "UTF-8" in row["reason"]
    with pytest.raises(MisuseError, match=r"not in quarantine: nobody\.txt"):
        release(pipeline, ["valve.txt", "nobody.txt"])
    assert release(pipeline, ["valve.txt"]) == ["valve.txt"]
    assert contents(pipeline) == []
    report = sync(pipeline)
    assert (report.changed, report.quarantined) == (1, 1)
    assert contents(pipeline)[0]["attempts"] == 2
    assert release(pipeline) == ["valve.txt"]


def test_prefect_is_told_once_of_each_version_in_quarantine(
    pipeline: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry of the same version is no news. A new broken version is."""
    told: list[Any] = []
    monkeypatch.setattr("flows.events.emit_event", lambda event, **also: told.append((event, also["payload"])))
    assert release(pipeline) == ["valve.txt"]
    sync(pipeline)
    assert (len(contents(pipeline)), told) == (1, [])
    bucket.put("valve.txt", BROKEN + b"\x00")
    bucket.put("pump.txt", BROKEN)
    sync(pipeline)
    payload = {"collection": f"{pipeline}_g0001", "number": 2, "objects": ["pump.txt", "valve.txt"]}
    assert told == [("lockstep.objects.quarantined", payload)]
    sync(pipeline)
    assert len(told) == 1


def test_an_object_that_was_deleted_in_between_has_no_older_version(pipeline: str, bucket: Bucket) -> None:
    bucket.delete("valve.txt")
    sync(pipeline)
    bucket.put("valve.txt", BROKEN)
    sync(pipeline)
    assert contents(pipeline)[0]["older_version_answers"] is False
    assert not any(citation.key == "valve.txt" for citation in ask("Turn the valve?", pipeline).citations)


class Refusing:
    """Lets the bucket refuse to hand out some keys, with the error that S3 says it with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: set[str], code: str, status: int) -> None:
        self.keys = keys

        def fetched(client: Any, source: Any, ref: Any, spool: Any) -> Any:
            with s3_errors(source, one_object=True):
                if ref.key in self.keys:
                    said = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
                    raise ClientError(said, "GetObject")  # type: ignore[arg-type]
            return fetch(client, source, ref, spool)

        monkeypatch.setattr("tasks.indexing.read.fetch", fetched)


def later(name: str, hours: float) -> None:
    """Let everything that the ledger has recorded be so much longer ago."""
    ms = int(hours * 3_600_000)
    with Database(load_pipeline(name).ledger).transaction() as connection:
        connection.execute(
            sa.update(OBJECTS).values(updated_at=OBJECTS.c.updated_at - ms, failed_at=OBJECTS.c.failed_at - ms)
        )


def test_a_bucket_that_refuses_everything_is_an_outage_however_many_syncs_it_lasts(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {f"{number}.txt" for number in range(8)}
    for key in keys:
        bucket.put(key, f"This is the text of {key}, which may be read by those who are let.")
    name = make_pipeline()
    refusing = Refusing(monkeypatch, keys, "AccessDenied", 403)
    for _ in range(3):  # with events, three syncs take less than a minute
        with pytest.raises(OutageError, match="AccessDenied"):
            sync(name)
    refusing.keys = set()
    report = sync(name)
    assert (report.new, report.quarantined) == (8, 0)
    assert audit(name).objects == 8

    bucket.put("0.txt", "Another text, which is refused for longer than an outage lasts.")
    for key in keys:
        bucket.put(key, f"This is another text of {key}.")
    refusing.keys = keys
    for _ in range(2):
        with pytest.raises(OutageError):
            sync(name)
    later(name, hours=6)
    assert sync(name).quarantined == 8


def test_what_the_bucket_refuses_is_tried_again_by_itself(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("key.txt", "This object is encrypted with a key of its own.")
    bucket.put("damaged.pdf", b"%PDF-1.4 and nothing more")
    bucket.put("good.txt", "This object can be read by everybody.")
    name = make_pipeline()
    refusing = Refusing(monkeypatch, {"key.txt"}, "KMS.DisabledException", 400)
    assert sync(name).quarantined == 2
    assert sync(name).unchanged == 3  # not at once
    later(name, hours=0.25)
    report = sync(name)
    assert (report.new, report.unchanged, report.quarantined) == (1, 2, 2)
    assert {row["key"]: row["attempts"] for row in contents(name)} == {"key.txt": 2, "damaged.pdf": 1}
    refusing.keys = set()
    later(name, hours=24)
    assert audit(name, sync_first=True).consistent
    assert [row["key"] for row in contents(name)] == ["damaged.pdf"]


def test_what_the_bucket_refuses_stays_in_quarantine_while_the_sync_is_refused(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would try it again, and nobody would see it."""
    for number in range(4):
        bucket.put(f"{number}.txt", f"This is text number {number}, which everybody may read.")
    bucket.put("key.txt", "This object is encrypted with a key of its own.")
    name = make_pipeline()
    refusing = Refusing(monkeypatch, {"key.txt"}, "KMS.DisabledException", 400)
    assert sync(name).quarantined == 1
    later(name, hours=24)
    for number in range(4):
        bucket.delete(f"{number}.txt")
    with pytest.raises(DeletionError):
        sync(name)
    assert [row["key"] for row in contents(name)] == ["key.txt"], "the brake stopped it"
    make_pipeline(embed_heading=False)
    with pytest.raises(DeletionError):
        sync(name)
    assert [row["key"] for row in contents(name)] == ["key.txt"], "its settings are refused, and the brake stopped it"
    bucket.put("0.txt", "This is text number 0, which everybody may read.")
    bucket.put("1.txt", "This is text number 1, which everybody may read.")
    with pytest.raises(FingerprintError):
        sync(name)
    assert [row["key"] for row in contents(name)] == ["key.txt"], "its settings are refused, and it deletes alone"
    make_pipeline(embed_heading=True)
    refusing.keys = set()
    report = sync(name)
    assert (report.new, report.changed, report.unchanged, report.quarantined) == (1, 0, 2, 0)


@pytest.mark.parametrize(
    ("code", "status"), [("PreconditionFailed", 412), pytest.param("NoSuchKey", 404, marks=pytest.mark.long)]
)
def test_what_is_listed_but_always_moves_on_when_it_is_read_comes_to_light(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    bucket.put("odd.txt", "This object is listed, but nobody can read it.")
    bucket.put("good.txt", "This object can be read by everybody.")
    name = make_pipeline()
    Refusing(monkeypatch, {"odd.txt"}, code, status)
    for _ in range(3):
        assert sync(name).moved_on == 1
    later(name, hours=6)
    report = sync(name)
    assert (report.moved_on, report.quarantined) == (0, 1)
    (row,) = contents(name)
    assert (row["key"], row["attempts"]) == ("odd.txt", 4)
    assert "lists this version" in row["reason"]
