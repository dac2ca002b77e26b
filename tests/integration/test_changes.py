"""The queue of keys that notifications named, and the lag, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from blocks.s3_source import S3Source
from deployments.watch.inbox import Inbox
from tasks.indexing.spot import GONE, spot
from tasks.ledger.changes import (
    WHOLE_BUCKET,
    forget_changes,
    forget_listed,
    lag_of,
    quiet_seconds,
    record_changes,
    waiting_changes,
)
from tasks.ledger.database import Database
from tasks.ledger.generations import record_generation, record_sync
from tasks.ledger.objects import confirm_indexed, forget_objects, record_deletions, record_wanted
from tasks.ledger.tables import CHANGES
from tasks.models import ObjectRef
from tests.support.servers import sqlite_url

ON, ALIAS = "docs_g0001", "docs"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Database]:
    with Database(LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5)) as ledger:
        with ledger.transaction() as connection:
            connection.execute(sa.delete(CHANGES))
        yield ledger


def keys(ledger: Database) -> list[str]:
    return [change.key for change in waiting_changes(ledger, ALIAS, 1000)]


def older(ledger: Database, key: str, seconds: int) -> None:
    moved = {"since": CHANGES.c.since - 1000 * seconds, "named_at": CHANGES.c.named_at - 1000 * seconds}
    with ledger.transaction() as connection:
        connection.execute(sa.update(CHANGES).where(CHANGES.c.key == key).values(moved))


def ref(key: str, etag: str = "e1") -> ObjectRef:
    return ObjectRef(key, etag, 10, 0)


def indexed(ledger: Database, *refs: ObjectRef) -> None:
    record_wanted(ledger, ON, refs, "run")
    confirm_indexed(ledger, ON, {one: [f"{one.key}-0"] for one in refs}, [], "run")


def test_a_key_waits_once_however_often_it_is_named(ledger: Database) -> None:
    assert record_changes(ledger, ALIAS, ["b", "a", "b"]) == 2
    assert record_changes(ledger, ALIAS, ["a", "ü"]) == 1
    record_changes(ledger, "others", ["theirs"])
    assert sorted(keys(ledger)) == ["a", "b", "ü"]
    older(ledger, "ü", 5)
    assert keys(ledger)[0] == "ü", "the oldest first"
    assert len(waiting_changes(ledger, ALIAS, 2)) == 2


def test_a_key_that_is_named_while_it_is_synced_is_synced_again(ledger: Database) -> None:
    record_changes(ledger, ALIAS, ["a", "b"])
    looked_at = waiting_changes(ledger, ALIAS, 10)
    record_changes(ledger, ALIAS, ["b"])
    forget_changes(ledger, ALIAS, looked_at)
    assert keys(ledger) == ["b"]


def test_a_whole_sync_forgets_what_its_listing_surely_had(ledger: Database) -> None:
    record_changes(ledger, ALIAS, ["old", "new"])
    older(ledger, "old", 61)
    forget_listed(ledger, ALIAS, ledger.moment())
    assert keys(ledger) == ["new"]


def test_quiet_is_counted_from_the_last_name_and_age_from_the_first(ledger: Database) -> None:
    assert quiet_seconds(ledger, ALIAS) is None
    record_changes(ledger, ALIAS, ["a"])
    older(ledger, "a", 10)
    record_changes(ledger, ALIAS, ["a"])
    quiet = quiet_seconds(ledger, ALIAS)
    assert quiet is not None
    assert quiet[0] < 5
    assert 10 <= quiet[1] < 15


def test_the_lag_is_that_of_the_oldest_change_that_does_not_answer_yet(ledger: Database) -> None:
    record_generation(ledger, ON, ALIAS, "f", {})
    assert (lag_of(ledger, ALIAS, ON).waiting, lag_of(ledger, ALIAS, ON).listed_seconds) == (0, None)
    indexed(ledger, ref("a"), ref("b"))
    assert lag_of(ledger, ALIAS, ON).seconds == 0
    record_wanted(ledger, ON, [ref("a", "e2")], "run")
    record_deletions(ledger, ON, ["b"], "run")
    time.sleep(0.3)
    record_wanted(ledger, ON, [ref("a", "e3")], "another run")
    waits = lag_of(ledger, ALIAS, ON)
    assert waits.waiting == 2
    assert 0.3 <= waits.seconds < 30, "it waits since the first of both was recorded"
    record_changes(ledger, ALIAS, ["c"])
    older(ledger, "c", 100)
    assert 100 <= lag_of(ledger, ALIAS, ON).seconds < 130
    forget_changes(ledger, ALIAS, waiting_changes(ledger, ALIAS, 10))
    confirm_indexed(ledger, ON, {ref("a", "e3"): ["a-0"]}, [], "run")
    forget_objects(ledger, ON, ["b"])
    record_sync(ledger, ON, ledger.moment() - 5000)
    caught_up = lag_of(ledger, ALIAS, ON)
    assert (caught_up.seconds, caught_up.waiting) == (0, 0)
    assert caught_up.listed_seconds is not None
    assert 5 <= caught_up.listed_seconds < 30


def test_the_inbox_takes_the_keys_of_its_own_bucket_and_prefix(
    ledger: Database, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(ledger, ALIAS, S3Source(bucket="documents", prefix="docs/"))

    def event(bucket: str, key: str) -> str:
        return (
            '{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put",'
            f'"s3":{{"bucket":{{"name":"{bucket}"}},"object":{{"key":"{key}"}}}}}}'
        )

    body = (
        f'{{"Records":[{event("documents", "docs/a+b.md")},{event("documents", "else/c.md")},'
        f'{event("theirs", "docs/d.md")},{{"eventSource":"aws:s3"}}]}}'
    )
    taken = inbox.take(body.encode(), "a test")
    assert (taken.named, taken.new, taken.unreadable) == (1, 1, 1)
    assert keys(ledger) == ["docs/a b.md"]
    assert inbox.take(b"\xff not JSON", "a test").unreadable == 1
    assert "from a test cannot be read" in caplog.text
    assert inbox.take(body.encode(), "a test").new == 0


def listed(*refs: ObjectRef) -> list[list[ObjectRef]]:
    return [list(refs[start : start + 2]) for start in range(0, len(refs), 2)]


def spotted(ledger: Database, listing: list[list[ObjectRef]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for versions in spot(listing, ledger, ON):
        found |= versions
    return found


def test_a_listing_tells_what_no_sync_has_recorded(ledger: Database) -> None:
    indexed(ledger, *map(ref, "bdfh"))
    record_wanted(ledger, ON, [ref("d", "e2"), ref("k")], "run")
    record_deletions(ledger, ON, ["f"], "run")
    listing = listed(ref("a"), ref("b"), ref("d", "e3"), ref("k"))
    assert spotted(ledger, listing) == {"a": "e1", "d": "e3", "h": GONE}
    backwards = [page[::-1] for page in listing[::-1]]
    assert spotted(ledger, backwards).items() >= {"a": "e1", "d": "e3"}.items()


def test_more_rows_than_are_read_ask_for_a_whole_sync(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.indexing.spot.MOST_ROWS", 3)
    indexed(ledger, *map(ref, "abcdefg"))
    assert spotted(ledger, []) == {WHOLE_BUCKET: GONE}


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abü", min_size=1, max_size=3), st.sampled_from("xyz"), max_size=12), st.integers(1, 4))
def test_a_sorted_listing_tells_exactly_the_difference(
    tmp_path_factory: pytest.TempPathFactory, bucket: dict[str, str], size: int
) -> None:
    known = {key: version for key, version in bucket.items() if version != "z"} | {"b": "x", "zz": "y"}
    folder: Path = tmp_path_factory.mktemp("spot")
    with Database(LedgerBlock(url=SecretStr(sqlite_url(folder)))) as ledger:
        indexed(ledger, *(ref(key, version) for key, version in known.items()))
        now = [ref(key, {"y": "w"}.get(version, version)) for key, version in sorted(bucket.items())]
        listing = [now[start : start + size] for start in range(0, len(now), size)]
        there = {one.key: one.etag for one in now}
        changed = {key: etag for key, etag in there.items() if known.get(key) != etag}
        assert spotted(ledger, listing) == changed | {key: GONE for key in known if key not in there}
