"""What is left of objects that cannot be indexed: the last version that was confirmed, if it is whole."""

from __future__ import annotations

import pytest

from tasks.indexing.finish import leftovers
from tasks.ledger.database import digest

Row = dict[str, str]


def rows(**etags: str) -> list[Row]:
    """Rows of Milvus by id, all of one object."""
    return [{"id": chunk_id, "key": "a", "etag": etag} for chunk_id, etag in etags.items()]


MARK = digest(["i1", "i2"])


@pytest.mark.parametrize(
    ("held", "confirmed", "deleted", "lost"),
    [
        (rows(i1="e1", i2="e1"), ("e1", MARK), [], []),
        (rows(i2="e1", i1="e1"), ("e1", MARK), [], []),
        # a run that died had written a part of the next version
        (rows(i1="e1", i2="e1", i3="e2"), ("e1", MARK), ["i3"], []),
        # … and replaced, or deleted, a part of the last good one
        (rows(i1="e1", i2="e2"), ("e1", MARK), ["i1", "i2"], ["a"]),
        (rows(i1="e1"), ("e1", MARK), ["i1"], ["a"]),
        (rows(i1="e1", i2="e1", i3="e1"), ("e1", MARK), ["i1", "i2", "i3"], ["a"]),
        (rows(i1="e1", i3="e1"), ("e1", MARK), ["i1", "i3"], ["a"]),
        (rows(i1="e2"), ("e1", MARK), ["i1"], ["a"]),
        ([], ("e1", MARK), [], ["a"]),
        # never confirmed: nothing of it answers, and nothing is lost
        (rows(i1="e1", i2="e1"), (None, None), ["i1", "i2"], []),
        ([], (None, None), [], []),
        # a version without text is whole without chunks
        ([], ("e1", digest([])), [], []),
    ],
)
def test_a_version_stays_when_it_is_whole(
    held: list[Row], confirmed: tuple[str | None, str | None], deleted: list[str], lost: list[str]
) -> None:
    assert leftovers(held, {"a": confirmed}) == (deleted, lost)


def test_each_object_is_looked_at_by_itself() -> None:
    held = [*rows(i1="e1", i2="e1"), {"id": "j1", "key": "b", "etag": "e1"}]
    found = leftovers(held, {"a": ("e1", MARK), "b": ("e1", digest(["j1", "j2"]))})
    assert found == (["j1"], ["b"])
    assert leftovers(held, {"a": ("e1", MARK)}) == ([], []), "what nobody asked about stays"
