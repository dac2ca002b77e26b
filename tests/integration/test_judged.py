"""What stays of objects that a run could not index, in Milvus and in the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tasks.errors import LockstepError
from tasks.generations.opening import open_next
from tasks.indexing.finish import judge
from tasks.ledger import quarantine as failures
from tasks.milvus.rows import Columns, to_rows
from tasks.models import Chunk, Cut, CutDocument, Embedded, Failure, ObjectRef
from tasks.resources import Tools


@pytest.fixture
def collection(tools: Tools) -> str:
    return open_next(tools, lambda _line: None)


def ref(key: str, etag: str) -> ObjectRef:
    return ObjectRef(key, etag, 1, 0)


def write(tools: Tools, collection: str, one: ObjectRef, *ids: str) -> None:
    """Write chunks of a version to Milvus, as a run does before the ledger hears of it."""
    chunks = tuple(
        Chunk(f"{one.key}-{name}", one.key, n, name, "", None, name, f"{one.key}-{name}") for n, name in enumerate(ids)
    )
    vectors = np.full((len(ids), tools.model.dimension), 0.05, np.float32)
    batch = Embedded(Cut((CutDocument(one, chunks, {}),)), vectors, len(ids), 0)
    tools.store.upsert(collection, to_rows(batch, 1, "run", Columns(tools.store.abilities.bm25)))


def index(tools: Tools, collection: str, one: ObjectRef, *ids: str) -> None:
    write(tools, collection, one, *ids)
    tools.ledger.intend(collection, [one], "run")
    tools.ledger.confirm(collection, {one: [f"{one.key}-{name}" for name in ids]}, [], "run")


def fail(tools: Tools, collection: str, one: ObjectRef, run: str = "run") -> None:
    tools.ledger.intend(collection, [one], run)
    tools.ledger.confirm(collection, {}, [Failure(one, "the PDF is damaged")], run)


def held(tools: Tools, collection: str) -> Mapping[str, str]:
    return {row["id"]: row["etag"] for row in tools.store.rows(collection, ["id", "etag"])}


def test_the_last_good_version_stays_if_it_is_whole_and_nothing_else(
    tools: Tools, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.indexing.steps.KEYS_AT_ONCE", 2)
    monkeypatch.setattr("tasks.ledger.quarantine.KEYS_AT_ONCE", 3)
    for key in ("whole", "broken", "fine"):
        index(tools, collection, ref(key, "e1"), "1", "2")
    write(tools, collection, ref("whole", "e2"), "3")  # a run that died had begun to write the next version
    write(tools, collection, ref("broken", "e2"), "2", "3")  # … or replaced a part of the last good one
    write(tools, collection, ref("never", "e1"), "1")
    write(tools, collection, ref("of another run", "e1"), "1")
    for key in ("whole", "broken", "never", "empty"):
        fail(tools, collection, ref(key, "e2"))
    fail(tools, collection, ref("of another run", "e1"), "another")

    assert judge.fn(tools, collection) == 4
    assert held(tools, collection) == {
        "fine-1": "e1", "fine-2": "e1", "whole-1": "e1", "whole-2": "e1", "of another run-1": "e1",
    }  # fmt: skip
    known = tools.ledger.confirmed(collection, ["whole", "broken", "never"])
    assert known["whole"][0] == "e1"
    assert known["broken"] == known["never"] == (None, None), "the ledger does not say that a version answers"
    assert tools.ledger.totals(collection)["chunks"] == 4
    assert {row["key"] for row in failures.quarantined(tools.ledger, collection)} == {
        "whole", "broken", "never", "empty",
    }  # fmt: skip


def test_who_is_no_longer_the_writer_judges_nothing(tools: Tools, collection: str) -> None:
    write(tools, collection, ref("never", "e1"), "1")
    fail(tools, collection, ref("never", "e1"))

    def lost() -> None:
        raise LockstepError("this run is no longer the writer")

    tools.check_writer = lost
    with pytest.raises(LockstepError, match="no longer the writer"):
        judge.fn(tools, collection)
    assert held(tools, collection) == {"never-1": "e1"}
    assert failures.quarantined(tools.ledger, collection) == []
