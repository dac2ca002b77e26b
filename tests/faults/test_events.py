"""Whatever notifications say, the index ends equal to the bucket: they make it quick, and cannot make it wrong."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from blocks.settings import Settings
from deployments.environment import Environment
from deployments.watch.inbox import Inbox
from deployments.watch.runs import tag_of
from deployments.watch.watcher import Watcher
from flows.audit import audit
from flows.sync import sync
from tasks.ledger.changes import lag_of, waiting_changes
from tasks.ledger.database import Database
from tasks.pipelines import load_pipeline
from tasks.retrieval.routing import Index
from tests.support.proxy import Proxy
from tests.support.servers import Bucket, Server

NOTIFICATIONS = 5000
FEW = 25
"""Runs for all of them: one every two seconds at the most, of 512 keys at the most."""


def text(number: int, version: int = 0) -> str:
    return f"# Tree {number}\n\nThe tree {number} is of its own kind, in version {version}.\n"


def body(*names: tuple[str, str]) -> bytes:
    """A notification of AWS' shape."""
    records = [
        {"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put",
         "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "eTag": "whatever", "sequencer": "0"}}}
        for bucket, key in names
    ]  # fmt: skip
    return json.dumps({"Records": records}).encode()


@contextmanager
def watching(name: str, home: Path, count: int = 1) -> Iterator[list[Watcher]]:
    """Watch with so many watchers, as threads of this process, without a listing in between."""
    sync.to_deployment(name).apply()  # type: ignore[union-attr]
    env = Environment(home=home, watch_poll_seconds=0)
    watchers = [Watcher(name, env) for _ in range(count)]
    threads = [threading.Thread(target=watcher.run, daemon=True) for watcher in watchers]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 60
        while not any(watcher.works.is_set() for watcher in watchers):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield watchers
    finally:
        for watcher in watchers:
            watcher.stop.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def held(name: str) -> dict[str, str]:
    """The text that answers, by key; each object here has one chunk."""
    block = load_pipeline(name)
    with Index(block) as index:
        rows = index.store.rows(index.store.resolve(), ["key", "text"])
        return {row["key"]: row["text"] for row in rows}


def nothing_waits(name: str, seconds: float = 120) -> None:
    block = load_pipeline(name)
    deadline = time.monotonic() + seconds
    with Database(block.ledger) as ledger:
        while waiting_changes(ledger, name, 1) or lag_of(ledger, name, f"{name}_g0001").waiting:
            assert time.monotonic() < deadline, "what was named still waits"
            time.sleep(0.2)


def runs_of(name: str) -> int:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(name)])))
    return len([run for run in found if "keys" in run.parameters])


def test_a_burst_of_doubled_shuffled_lost_and_forged_notifications(
    make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Path
) -> None:
    for number in range(40):
        bucket.put(f"trees/{number}.md", text(number))
    name = make_pipeline()
    sync(name)
    block, rng = load_pipeline(name), random.Random(7)
    with watching(name, tmp_path), Database(block.ledger) as ledger:
        inbox = Inbox(ledger, name, block.source)
        told: set[str] = set()
        names: list[tuple[str, str]] = []
        for number in range(40):
            key = f"trees/{number}.md"
            if number % 4 == 0:
                bucket.delete(key)
            elif number % 4 == 1:
                bucket.put(key, text(number, 1))
            elif number % 4 == 2:
                bucket.put(f"moved/{number}.md", text(number))
                bucket.delete(key)
                names.append((bucket.name, f"moved/{number}.md"))
            names.append((bucket.name, key))
        names += [(bucket.name, f"never/{number}.md") for number in range(20)]
        names += [("theirs", f"trees/{number}.md") for number in range(20)]
        names += [(bucket.name, "trees/"), (bucket.name, "x" * 1024)]
        lost = set(rng.sample(sorted(key for _, key in names), len(names) // 10))
        said = [rng.choice(names) for _ in range(NOTIFICATIONS)] + names
        rng.shuffle(said)
        said = [one for one in said if one[1] not in lost]
        told = {key for _, key in said}

        def send(some: list[tuple[str, str]]) -> None:
            for start in range(0, len(some), 5):
                inbox.take(body(*some[start : start + 5]), "a test")
            inbox.take(b"{not JSON", "a test")

        senders = [threading.Thread(target=send, args=[said[start::4]]) for start in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        nothing_waits(name)
        assert 0 < runs_of(name) <= FEW
        answering = held(name)
        for number in range(40):
            key = f"trees/{number}.md"
            if key in told:
                assert (key in answering) is (number % 4 in (1, 3)), key
                assert number % 4 != 1 or "version 1" in answering[key]
    assert not sync(name).quarantined, "the listing finds what was lost"
    assert audit(name).consistent
    assert len(held(name)) == 30


@pytest.mark.parametrize("part", ["milvus", "s3"])
def test_a_part_that_is_away_while_it_watches(
    make_pipeline: Callable[..., str],
    bucket: Bucket,
    s3_server: Server,
    milvus: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    monkeypatch.setattr("deployments.watch.watcher.LONGEST_PAUSE_SECONDS", 2.0)
    proxy = Proxy((milvus if part == "milvus" else s3_server).url)
    at = {"milvus": proxy.url, "milvus_seconds": 3.0} if part == "milvus" else {"source": {"endpoint_url": proxy.url}}
    for number in range(4):
        bucket.put(f"{number}.md", text(number))
    name = make_pipeline(**at)
    sync(name)
    block = load_pipeline(name)
    with watching(name, tmp_path), Database(block.ledger) as ledger:
        inbox = Inbox(ledger, name, block.source)
        for version in range(1, 7):
            bucket.put("0.md", text(0, version))
            bucket.put(f"new-{version}.md", text(version))
            inbox.take(body((bucket.name, "0.md"), (bucket.name, f"new-{version}.md")), "a test")
            if version in (2, 4):
                proxy.make("refuse" if version == 2 else "reset")
                time.sleep(2)
                proxy.make("none")
        bucket.delete("1.md")
        inbox.take(body((bucket.name, "1.md")), "a test")
        nothing_waits(name)
        answering = held(name)
        assert "version 6" in answering["0.md"]
        assert set(answering) == {"0.md", "2.md", "3.md", *(f"new-{version}.md" for version in range(1, 7))}
        assert audit(name).consistent
    proxy.close()


def test_two_watchers_at_once(make_pipeline: Callable[..., str], bucket: Bucket, tmp_path: Path) -> None:
    for number in range(6):
        bucket.put(f"{number}.md", text(number))
    name = make_pipeline()
    sync(name)
    block = load_pipeline(name)
    with watching(name, tmp_path, count=2) as watchers, Database(block.ledger) as ledger:
        inbox = Inbox(ledger, name, block.source)
        for version in range(1, 4):
            bucket.put("0.md", text(0, version))
            inbox.take(body((bucket.name, "0.md")), "a test")
            if version == 2:  # the other takes over
                next(watcher for watcher in watchers if watcher.works.is_set()).stop.set()
            nothing_waits(name)
            assert f"version {version}" in held(name)["0.md"]
    assert audit(name).consistent


def test_what_a_sync_of_keys_has_confirmed_is_seen_by_the_next_search(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    """Also on a server whose searches may be some seconds behind."""
    for number in range(20):  # so many that five deletions need no listing
        bucket.put(f"stays/{number}.md", text(100 + number))
    name = make_pipeline()
    sync(name)
    vector = np.ones(384, np.float32) / np.sqrt(384)

    def found() -> set[str]:
        with Index(load_pipeline(name)) as index:
            settings = Settings(mode="dense", top_k=50)
            return {hit.key for hit in index.store.search(index.store.resolve(), ["x"], [vector], settings)[0]}

    for number in range(1, 6):
        bucket.put(f"{number}.md", text(number))
        sync(name, keys=[f"{number}.md"])
        assert f"{number}.md" in found()
        bucket.delete(f"{number}.md")
        sync(name, keys=[f"{number}.md"])
        assert f"{number}.md" not in found()
