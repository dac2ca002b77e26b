"""A write ends within its deadline, whatever Milvus does, so that it is over before another writer may begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from blocks.milvus_store import MilvusStore
from blocks.settings import Settings
from tasks.errors import TransientError
from tasks.ledger import lease
from tasks.ledger.database import Database
from tasks.limits import WRITE_SECONDS
from tasks.milvus.store import Store
from tests.support.proxy import Proxy
from tests.support.servers import Server, sqlite_url

ON = "deadline_g0001"


@pytest.fixture
def proxy(milvus_lite: Server) -> Iterator[Proxy]:
    proxy = Proxy(milvus_lite.url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy, milvus_lite: Server) -> Iterator[Store]:
    store = Store(MilvusStore(uri=proxy.url, timeout_seconds=60), "deadline")
    store.create(ON, 4, Settings(), {})
    yield store
    store.client.close()
    direct = MilvusStore(uri=milvus_lite.url).get_client()
    direct.drop_collection(ON)
    direct.close()


def row(store: Store, text: str) -> dict[str, object]:
    words = {"words": text} if store.capabilities.bm25 else {}
    return {
        "id": text, "key": "a.md", "etag": "e", "text": text, "text_hash": text, "heading": "", "page": 0,
        "chunk_index": 0, "metadata": {}, "embedding": np.ones(4, np.float32) / 2, "last_modified": 0, "indexed_at": 0,
        "flow_run_id": "", **words,
    }  # fmt: skip


@pytest.mark.parametrize("trouble", ["silent", "refuse"])
def test_a_write_that_is_not_answered_ends_within_half_a_lease(
    store: Store, proxy: Proxy, trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of the block may be longer, and pymilvus tries again inside of a call."""
    monkeypatch.setattr(lease, "LASTS_MS", 40_000)
    monkeypatch.setattr("tasks.milvus.store.WRITE_SECONDS", 2.0)
    ledger = Database(LedgerBlock(url=SecretStr(sqlite_url(tmp_path))))
    with lease.writing(ledger, ON, "a sync", 0, print) as check:
        store.check_writer = check
        store.upsert(ON, [row(store, "one")])
        if trouble == "silent":
            proxy.swallow()
        else:
            proxy.make("refuse")
        began = time.monotonic()
        with pytest.raises(TransientError, match="does not answer"):
            store.upsert(ON, [row(store, "two")])
        assert time.monotonic() - began < lease.LASTS_MS / 2000
    ledger.engine.dispose()


def test_neither_alias_nor_collection_is_touched_without_the_lease(store: Store) -> None:
    store.check_writer = refuse
    for write in (
        lambda: store.upsert(ON, [row(store, "one")]),
        lambda: store.delete(ON, ["one"]),
        lambda: store.point_alias(ON),
        lambda: store.drop(ON),
        lambda: store.keep_property(ON, "lockstep.source", "handbooks"),
    ):
        with pytest.raises(TransientError, match="no longer the writer"):
            write()
    assert store.live() is None
    assert store.exists(ON)
    assert "lockstep.source" not in store.properties(ON)


def test_each_write_is_given_its_deadline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the block lets other calls take."""
    given: dict[str, float] = {}

    def instead_of(name: str) -> Callable[..., None]:
        def call(*_: object, timeout: float, **_also: object) -> None:
            given[name] = timeout

        return call

    for name in ("upsert", "delete", "create_alias", "alter_collection_properties", "drop_collection"):
        monkeypatch.setattr(store.client, name, instead_of(name))
    store.upsert(ON, [row(store, "one")])
    store.delete(ON, ["one"])
    store.point_alias(ON)
    store.keep_property(ON, "lockstep.source", "handbooks")
    store.drop(ON)
    assert given == dict.fromkeys(given, WRITE_SECONDS)
    assert len(given) == 5


def refuse() -> None:
    raise TransientError("no longer the writer")
