"""What stays of objects that a run could not index, in Milvus and in the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tasks.errors import LockstepError
from tasks.generations.opening import open_next
from tasks.indexing.finish import quarantine_failures
from tasks.ledger import quarantine
from tasks.ledger.objects import confirm_indexed, confirmed_versions, count_objects, record_wanted
from tasks.milvus.rows import Columns, to_rows
from tasks.models import Chunk, ChunkedBatch, CutDocument, EmbeddedBatch, Failure, ObjectRef
from tasks.resources import Resources


@pytest.fixture
def collection(resources: Resources) -> str:
    return open_next(resources)


def ref(key: str, etag: str) -> ObjectRef:
    return ObjectRef(key, etag, 1, 0)


def write(resources: Resources, collection: str, one: ObjectRef, *ids: str) -> None:
    """Write chunks of a version to Milvus, as a run does before the ledger hears of it."""
    chunks = tuple(
        Chunk(f"{one.key}-{name}", one.key, n, name, "", None, name, f"{one.key}-{name}") for n, name in enumerate(ids)
    )
    vectors = np.full((len(ids), resources.model.dimension), 0.05, np.float32)
    batch = EmbeddedBatch(ChunkedBatch((CutDocument(one, chunks, {}),)), vectors, len(ids), 0)
    resources.store.upsert(collection, to_rows(batch, 1, "run", Columns(resources.store.capabilities.bm25)))


def index(resources: Resources, collection: str, one: ObjectRef, *ids: str) -> None:
    write(resources, collection, one, *ids)
    record_wanted(resources.ledger, collection, [one], "run")
    confirm_indexed(resources.ledger, collection, {one: [f"{one.key}-{name}" for name in ids]}, [], "run")


def fail(resources: Resources, collection: str, one: ObjectRef, run: str = "run") -> None:
    record_wanted(resources.ledger, collection, [one], run)
    confirm_indexed(resources.ledger, collection, {}, [Failure(one, "the PDF is damaged")], run)


def held(resources: Resources, collection: str) -> Mapping[str, str]:
    return {row["id"]: row["etag"] for row in resources.store.rows(collection, ["id", "etag"])}


def test_the_last_good_version_stays_if_it_is_whole_and_nothing_else(
    resources: Resources, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.indexing.finish.KEYS_AT_ONCE", 2)
    monkeypatch.setattr("tasks.ledger.quarantine.KEYS_AT_ONCE", 3)
    for key in ("whole", "broken", "fine"):
        index(resources, collection, ref(key, "e1"), "1", "2")
    write(resources, collection, ref("whole", "e2"), "3")  # a run that died had begun to write the next version
    write(resources, collection, ref("broken", "e2"), "2", "3")  # … or replaced a part of the last good one
    write(resources, collection, ref("never", "e1"), "1")
    write(resources, collection, ref("of another run", "e1"), "1")
    for key in ("whole", "broken", "never", "empty"):
        fail(resources, collection, ref(key, "e2"))
    fail(resources, collection, ref("of another run", "e1"), "another")

    assert quarantine_failures.fn(resources, collection) == 4
    assert held(resources, collection) == {
        "fine-1": "e1", "fine-2": "e1", "whole-1": "e1", "whole-2": "e1", "of another run-1": "e1",
    }  # fmt: skip
    known = confirmed_versions(resources.ledger, collection, ["whole", "broken", "never"])
    assert known["whole"][0] == "e1"
    assert known["broken"] == known["never"] == (None, None), "the ledger does not say that a version answers"
    assert count_objects(resources.ledger, collection)["chunks"] == 4
    assert {row["key"] for row in quarantine.quarantined(resources.ledger, collection)} == {
        "whole", "broken", "never", "empty",
    }  # fmt: skip


def test_who_is_no_longer_the_writer_judges_nothing(resources: Resources, collection: str) -> None:
    write(resources, collection, ref("never", "e1"), "1")
    fail(resources, collection, ref("never", "e1"))

    def lost() -> None:
        raise LockstepError("this run is no longer the writer")

    resources.check_writer = lost
    with pytest.raises(LockstepError, match="no longer the writer"):
        quarantine_failures.fn(resources, collection)
    assert held(resources, collection) == {"never-1": "e1"}
    assert quarantine.quarantined(resources.ledger, collection) == []
