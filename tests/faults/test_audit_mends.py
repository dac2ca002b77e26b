"""Whatever is wrong between bucket, ledger and Milvus, an audit finds it and mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flows.audit import audit
from flows.sync import sync
from tasks.errors import InconsistentError
from tasks.indexing.audit import Findings
from tasks.ledger.database import Database
from tasks.ledger.generations import ingredients_of
from tasks.ledger.tables import GENERATIONS, OBJECTS
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket

GUIDE = "# Guide\n\n## Install\n\nRun the installer and wait.\n\n## Remove\n\nUnplug the device first.\n"


@pytest.fixture
def pipeline(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A synced pipeline of three objects and four chunks."""
    bucket.put("guide.md", GUIDE)
    bucket.put("notes.txt", "Some notes about the weekly backup of the ledger.")
    bucket.put('odd" or key != ".txt', "A key that looks like a filter is only a key.")
    name = make_pipeline()
    sync(name)
    return name


def opened(name: str) -> tuple[Store, Database, str]:
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    collection = store.live()
    assert collection is not None
    return store, Database(block.ledger), collection


def rows(name: str, key: str) -> list[dict[str, Any]]:
    store, _, collection = opened(name)
    return [row for row in store.rows(collection, ["*"]) if row["key"] == key]


def look(name: str) -> Findings:
    """Audit; what is wrong is returned, not raised."""
    try:
        return audit(name)
    except InconsistentError as error:
        found: Findings = error.found
        return found


def lose_a_chunk(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    store.delete(collection, [rows(name, "guide.md")[0]["id"]])


def lose_an_object(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    store.prune(collection, ["guide.md"], set())


def forget_an_object(name: str, _bucket: Bucket) -> None:
    _, ledger, _ = opened(name)
    with ledger.transaction() as connection:
        connection.execute(sa.delete(OBJECTS).where(OBJECTS.c.key == "guide.md"))


def leave_a_chunk_of_nobody(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    row = {**rows(name, "notes.txt")[0], "id": "f" * 32, "key": "deleted-long-ago.txt"}
    row.pop("sparse", None)
    store.upsert(collection, [row])


def leave_a_chunk_of_an_old_version(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    row = {**rows(name, "guide.md")[0], "id": "e" * 32, "etag": "older", "chunk_index": 7}
    row.pop("sparse", None)
    store.upsert(collection, [row])


def double_a_chunk(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    row = {**rows(name, "guide.md")[0], "id": "d" * 32}
    row.pop("sparse", None)
    store.upsert(collection, [row])


def exchange_a_chunk(name: str, _bucket: Bucket) -> None:
    store, _, collection = opened(name)
    row = {**rows(name, "notes.txt")[0]}
    store.delete(collection, [row["id"]])
    row.pop("sparse", None)
    store.upsert(collection, [{**row, "id": "c" * 32}])


def miscount(name: str, _bucket: Bucket) -> None:
    _, ledger, _ = opened(name)
    with ledger.transaction() as connection:
        connection.execute(sa.update(OBJECTS).where(OBJECTS.c.key == "guide.md").values(chunks=5, digest=None))


def remember_a_ghost(name: str, bucket: Bucket) -> None:
    lose_an_object(name, bucket)
    bucket.delete("guide.md")


def write_behind_its_back(_name: str, bucket: Bucket) -> None:
    bucket.put("guide.md", GUIDE.replace("wait", "do not wait"))


def put_behind_its_back(_name: str, bucket: Bucket) -> None:
    bucket.put("fresh.txt", "This object has never been seen by any sync at all.")


@pytest.mark.parametrize(
    ("harm", "kind", "key"),
    [
        (lose_a_chunk, "missing", "guide.md"),
        (lose_an_object, "missing", "guide.md"),
        (miscount, "missing", "guide.md"),
        (put_behind_its_back, "missing", "fresh.txt"),
        (forget_an_object, "orphaned", "guide.md"),
        (leave_a_chunk_of_nobody, "orphaned", "deleted-long-ago.txt"),
        (exchange_a_chunk, "orphaned", "notes.txt"),
        (remember_a_ghost, "orphaned", "guide.md"),
        (leave_a_chunk_of_an_old_version, "stale", "guide.md"),
        (write_behind_its_back, "stale", "guide.md"),
        (double_a_chunk, "duplicated", "guide.md"),
    ],
)
def test_what_is_wrong_is_found_and_mended(
    pipeline: str, bucket: Bucket, harm: Callable[[str, Bucket], None], kind: str, key: str
) -> None:
    harm(pipeline, bucket)
    found = look(pipeline)
    assert not found.consistent
    assert {name: keys for name, keys in found.keys.items() if keys} == {kind: [key]}
    assert found.details[key]
    mended = audit(pipeline, repair=True)
    assert mended.consistent
    assert audit(pipeline).consistent


def test_a_wrong_fingerprint_is_found_and_no_sync_mends_it(pipeline: str) -> None:
    _, ledger, collection = opened(pipeline)
    parts = ingredients_of(ledger, collection)
    with ledger.transaction() as connection:
        connection.execute(sa.update(GENERATIONS).values(ingredients={**(parts or {}), "revision": "another"}))
    with pytest.raises(InconsistentError, match="wrong fingerprint") as caught:
        audit(pipeline)
    assert collection in caught.value.found.fingerprint
