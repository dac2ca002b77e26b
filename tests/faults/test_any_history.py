"""Whatever happened before, one clean sync makes the index equal to the bucket: random histories against a plain model.

It tries them for a minute on each stack and prints how many that were. Which they are is the same in every run;
`LOCKSTEP_HISTORIES=2000 python -m pytest tests/faults/test_any_history.py` tries so many.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.embedder import Embedder
from blocks.ledger import Ledger as LedgerBlock
from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source
from blocks.settings import Settings
from flows.audit import audit
from tasks.crash_points import CRASH_POINTS, listeners
from tasks.errors import DeletionError, OutageError, SourceError, TransientError
from tasks.ledger.changes import record_changes
from tasks.ledger.database import Database
from tasks.ledger.lease import watch_of, writing
from tasks.ledger.objects import count_answering
from tasks.milvus.store import Store
from tests.faults.conftest import LITE
from tests.support.plain_sync import engineless, patient_sync, plain_sync
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server, new_bucket, s3_client, sqlite_url

HISTORIES = int(os.environ.get("LOCKSTEP_HISTORIES", "0"))
SECONDS = 30.0
"""For how long histories are tried when their number is not given."""
ROUND = 5
"""Histories between two looks at the clock."""
KEYS = ["a.md", "b.md", "dir/c.md", 'q".md', "ü 日.md"]
WORDS = ["ash", "birch", "cedar", "elm", "fir", "oak"]
BROKEN = b"\x00\x01\x02\x03" * 50


class DiedError(BaseException):
    """The run is dead, as far as the code under test can tell."""


@dataclass(frozen=True)
class World:
    """What the histories run on, and how many there are at the least: 0 where the clock decides."""

    s3: Any
    milvus: str
    ledger: str
    histories: int
    another_bucket: str
    another_ledger: str
    neighbours_ledger: str


def content(words: list[str]) -> bytes:
    """A document of a section a word: one chunk each."""
    return "\n\n".join(
        ["# Trees", *(f"## About {word}\n\nThe {word} is a tree of its own kind." for word in words)]
    ).encode()


def texts(words: list[str]) -> list[str]:
    return sorted(f"The {word} is a tree of its own kind." for word in words)


class Histories(RuleBasedStateMachine):
    """Puts, deletions, renames, broken files, syncs that die, syncs at once, and everything that shows a sync another
    bucket than there is; then a clean sync and the proof."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.bucket = Bucket(self.world.s3, f"h-{uuid.uuid4().hex[:12]}")
        self.world.s3.create_bucket(Bucket=self.bucket.name)
        self.there: dict[str, list[str] | None] = {}
        self.good: dict[str, list[str]] = {}
        self.tried: dict[str, list[list[str]]] = {}
        self.gone: set[str] = set()
        self.uncertain = False
        self.copy: sqlite3.Connection | None = None
        credentials = AwsCredentials(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
        )
        self.pipeline = Pipeline(
            alias=f"h{uuid.uuid4().hex[:12]}",
            source=S3Source(bucket=self.bucket.name, credentials=credentials),
            store=MilvusStore(uri=self.world.milvus),
            embedder=Embedder(),
            ledger=LedgerBlock(url=SecretStr(self.world.ledger)),
            settings=Settings(batch_objects=2, wave_batches=2, wait_for_writer_seconds=60),
        )

    @rule(key=st.sampled_from(KEYS), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
    def put(self, key: str, words: list[str]) -> None:
        self.bucket.put(key, content(words))
        self.write(key, words)

    @rule(key=st.sampled_from(KEYS))
    def put_broken(self, key: str) -> None:
        self.bucket.put(key, BROKEN)
        self.there[key] = None

    @rule(key=st.sampled_from(KEYS))
    def put_the_same_again(self, key: str) -> None:
        if words := self.there.get(key):
            self.bucket.put(key, content(words))

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        if key in self.there:
            self.bucket.delete(key)
            self.gone.add(key)
            del self.there[key]

    @rule(old=st.sampled_from(KEYS), new=st.sampled_from(KEYS))
    def rename(self, old: str, new: str) -> None:
        words = self.there.get(old)
        if words and old != new:
            self.bucket.put(new, content(words))
            self.write(new, words)
            self.bucket.delete(old)
            self.gone.add(old)
            del self.there[old]

    @rule(place=st.sampled_from(CRASH_POINTS), time=st.integers(1, 3))
    def sync_that_dies(self, place: str, time: int) -> None:
        left = [time]

        def die(reached: str) -> None:
            left[0] -= reached == place
            if left[0] == 0:
                left[0] = -1
                raise DiedError

        listeners.append(die)
        try:
            with engineless(self.pipeline, self.bucket.client):
                patient_sync()
        except DiedError:
            self.uncertain = True
        else:
            self.settle()
        finally:
            listeners.remove(die)

    @rule()
    def sync(self) -> None:
        with engineless(self.pipeline, self.bucket.client):
            patient_sync()
        self.prove()

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True),
        place=st.none() | st.sampled_from(CRASH_POINTS),
    )
    def sync_of_some_keys(self, keys: list[str], place: str | None) -> None:
        """What notifications start. It may die, and says nothing of the other keys."""

        def die(reached: str) -> None:
            if reached == place:
                raise DiedError

        self.uncertain = True
        self.gone |= {*keys}
        listeners.append(die)
        try:
            with engineless(self.pipeline, self.bucket.client):
                plain_sync(keys)
        except (DiedError, OutageError, DeletionError):
            return
        finally:
            listeners.remove(die)
        held = self.texts_held()
        for key in keys:
            if words := self.there.get(key):
                assert held.get(key) == texts(words), key
                self.good[key] = words

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True), data=st.data())
    def whole_sync_that_serves_keys_in_between(self, keys: list[str], data: st.DataObject) -> None:
        """Somebody watches, and the bucket changes between two waves."""
        with Database(self.pipeline.ledger) as ledger:

            def change(reached: str) -> None:
                if reached in ("batch recorded", "gone forgotten") and keys:
                    key = keys.pop()
                    if data.draw(st.booleans()):
                        self.put(key, [data.draw(st.sampled_from(WORDS))])
                    else:
                        self.delete(key)
                    record_changes(ledger, self.pipeline.alias, [key])

            watch = writing(ledger, watch_of(self.pipeline.alias), "a watcher", 0, lambda _line: None)
            listeners.append(change)
            try:
                with watch, engineless(self.pipeline, self.bucket.client):
                    patient_sync()
            finally:
                listeners.remove(change)
        self.uncertain = True
        self.gone |= {*KEYS}
        with engineless(self.pipeline, self.bucket.client):
            patient_sync()
        self.prove()

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    def both_kinds_of_sync_at_once(self, keys: list[str]) -> None:
        failed: list[BaseException] = []

        def run(work: Callable[[], object]) -> None:
            try:
                work()
            except (OutageError, DeletionError):
                pass
            except BaseException as error:
                failed.append(error)

        with engineless(self.pipeline, self.bucket.client):
            both = [threading.Thread(target=run, args=[work]) for work in (patient_sync, lambda: plain_sync(keys))]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
        assert not failed
        self.prove()

    @rule()
    def two_syncs_at_once(self) -> None:
        failed: list[BaseException] = []

        def run() -> None:
            try:
                patient_sync()
            except BaseException as error:
                failed.append(error)

        with engineless(self.pipeline, self.bucket.client):
            both = [threading.Thread(target=run) for _ in range(2)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
        assert not failed
        self.prove()

    @rule()
    def sync_of_another_prefix(self) -> None:
        self.refused(SourceError, source={"prefix": "nowhere/"})

    @rule()
    def sync_of_another_bucket_with_a_ledger_of_its_own(self) -> None:
        other = LedgerBlock(url=SecretStr(self.world.another_ledger))
        self.refused(SourceError, source={"bucket": self.world.another_bucket}, ledger=other)

    @rule()
    def sync_of_a_listing_that_breaks_off(self) -> None:
        client = self.bucket.client
        first = client.list_objects_v2(Bucket=self.bucket.name, MaxKeys=1)
        half = {**first, "IsTruncated": True}
        half.pop("NextContinuationToken", None)
        with pytest.MonkeyPatch.context() as patch:
            paginator = SimpleNamespace(paginate=lambda **_: iter([half]))
            patch.setattr(client, "get_paginator", lambda _name: paginator)
            self.refused(TransientError)

    @rule()
    def sync_while_the_bucket_is_empty(self) -> None:
        there = {
            key: self.bucket.client.get_object(Bucket=self.bucket.name, Key=key)["Body"].read() for key in self.there
        }
        for key in there:
            self.bucket.delete(key)
        held, answering = self.held(), self.answering()
        try:
            with engineless(self.pipeline, self.bucket.client), suppress(DeletionError):
                plain_sync()
        finally:
            for key, body in there.items():
                self.bucket.put(key, body)
        if answering >= 3:
            assert self.held() == held, "so much is not deleted unasked"
        else:
            self.uncertain = True
            self.gone |= there.keys()

    @rule()
    def keep_a_copy_of_the_ledger(self) -> None:
        if self.world.ledger.startswith("sqlite"):
            self.copy = sqlite3.connect(":memory:")
            with closing(sqlite3.connect(self.world.ledger.removeprefix("sqlite:///"))) as ledger:
                ledger.backup(self.copy)

    @rule()
    def put_the_copy_of_the_ledger_back(self) -> None:
        if self.copy is None:
            return
        with closing(sqlite3.connect(self.world.ledger.removeprefix("sqlite:///"))) as ledger:
            self.copy.backup(ledger)
        self.uncertain = True
        self.gone |= {*self.there, *KEYS}
        with engineless(self.pipeline, self.bucket.client):
            patient_sync()  # what the bucket has not is gone, or comes up in the audit
            audit.fn("any", repair=True, allow_deletions=True)
        self.prove()

    @rule()
    def another_ledger_takes_the_index_over_and_gives_it_back(self) -> None:
        """Two homes over one bucket and one alias: an empty ledger may take the index over, one that knows it needs a
        yes, and whoever had it before is refused."""
        if not self.held():
            return
        neighbour = {"ledger": LedgerBlock(url=SecretStr(self.world.neighbours_ledger))}
        self.uncertain = True
        self.gone |= {*self.there, *KEYS}
        ours = self.pipeline
        self.pipeline = ours.model_copy(update=neighbour)
        with engineless(self.pipeline, self.bucket.client):
            patient_sync(accept_source=True)
        self.prove()
        self.uncertain = True
        self.gone |= {*self.there, *KEYS}
        self.pipeline, theirs = ours, self.pipeline
        with engineless(ours, self.bucket.client), pytest.raises(SourceError):
            plain_sync()
        with engineless(ours, self.bucket.client):
            patient_sync(accept_source=True)
        self.prove()
        with engineless(theirs, self.bucket.client), pytest.raises(SourceError):
            plain_sync()

    def answering(self) -> int:
        """How many objects answer whose deletion no run has recorded: what one that died recorded was let through."""
        ledger = Database(self.pipeline.ledger)
        number = count_answering(ledger, f"{self.pipeline.alias}_g0001")
        ledger.engine.dispose()
        return number

    def held(self) -> dict[str, list[str]]:
        """What answers, by key; nothing before the first sync."""
        store = Store(self.pipeline.store, self.pipeline.alias)
        held: dict[str, list[str]] = {}
        if collection := store.live():
            for row in store.rows(collection, ["key", "id"]):
                held.setdefault(row["key"], []).append(row["id"])
        store.client.close()
        return {key: sorted(ids) for key, ids in held.items()}

    def texts_held(self) -> dict[str, list[str]]:
        """The texts that answer, by key. There has been a sync."""
        store = Store(self.pipeline.store, self.pipeline.alias)
        collection = store.live()
        assert collection is not None
        held: dict[str, list[str]] = {}
        for row in store.rows(collection, ["key", "text"]):
            held.setdefault(row["key"], []).append(row["text"])
        store.client.close()
        return {key: sorted(found) for key, found in held.items()}

    def refused(self, error: type[Exception], source: dict[str, Any] | None = None, **update: Any) -> None:
        """Sync as somebody does whose settings or whose server are wrong: once there is an index, it stays as it is."""
        before = self.held()
        if not before:
            return
        wrong = self.pipeline.model_copy(
            update={"source": self.pipeline.source.model_copy(update=source or {}), **update}
        )
        with engineless(wrong, self.bucket.client), pytest.raises(error):
            plain_sync()
        assert self.held() == before

    def write(self, key: str, words: list[str]) -> None:
        """Note a version that the bucket has now, and that a sync may or may not come to see."""
        self.there[key] = words
        self.tried.setdefault(key, []).append(words)

    def settle(self) -> None:
        """A sync has come through: what it could read is what was last good."""
        self.good = {key: words if words is not None else self.good.get(key, []) for key, words in self.there.items()}

    def prove(self) -> None:
        """The index equals the model, and the audit agrees."""
        held = self.texts_held()
        self.settle()
        for key in held.keys() | self.there.keys():
            found = held.get(key, [])
            broken = key in self.there and self.there[key] is None
            if broken and self.uncertain:
                # A run that died may have confirmed a version in between, or written a part of it, or have seen the
                # object deleted; but what is held is one version, whole, or nothing.
                nothing = [[]] if key in self.gone or key in self.tried else []
                possible = [*nothing, self.good.get(key, []), *self.tried.get(key, [])]
                self.good[key] = next((words for words in possible if texts(words) == found), self.good.get(key, []))
            assert found == texts(self.good.get(key, [])), key
        self.uncertain = False
        self.tried = {}
        self.gone = set()
        with engineless(self.pipeline, self.bucket.client):
            found = audit.fn("any")
        assert found.keys["quarantined"] == sorted(key for key, words in self.there.items() if words is None)

    def teardown(self) -> None:
        """Whatever the history was: one clean sync, and the proof. Then clear up."""
        if not hasattr(self, "pipeline"):
            return
        try:
            with engineless(self.pipeline, self.bucket.client):
                patient_sync()
            self.prove()
        finally:
            store = Store(self.pipeline.store, self.pipeline.alias)
            if live := store.live():
                store.client.drop_alias(self.pipeline.alias)
                store.client.drop_collection(live)
            store.client.close()


@pytest.fixture
def world(parts: str, s3_server: Server, milvus: Server, ledger: str, tmp_path: Path) -> World:
    # Making a collection takes seconds on the real server: fewer histories.
    histories = HISTORIES if parts == LITE else HISTORIES // 6
    another = new_bucket(s3_server)
    another.put("theirs.md", content(["oak"]))
    others = [sqlite_url(tmp_path / name) for name in ("another", "neighbour")]
    for name in ("another", "neighbour"):
        (tmp_path / name).mkdir()
    return World(s3_client(s3_server.url), milvus.url, ledger, histories, another.name, *others)


@pytest.mark.timeout(0)  # hypothesis would take the signal for a finding and shrink it
def test_one_clean_sync_makes_the_index_equal_to_the_bucket(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    Histories.world = world
    began, tried = time.monotonic(), 0
    while tried < world.histories if world.histories else time.monotonic() - began < SECONDS:
        run_state_machine_as_test(
            seed(tried)(Histories),
            settings=settings(
                max_examples=ROUND,
                stateful_step_count=10,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
        tried += ROUND
    record_property("tried", f"{tried} histories in {time.monotonic() - began:.0f} s")
    assert tried
