"""What a listing and the ledger say has to be done."""

from __future__ import annotations

import pandas as pd
import pytest

from tasks.indexing.plan import COLUMNS, Plan, diff, frame
from tasks.models import ObjectRef

LEDGER_COLUMNS = ["key", "state", "etag", "size", "indexed_etag"]


def compare(listed: list[ObjectRef], known: list[tuple[str, str, str, int, str | None]]) -> dict[str, str]:
    ledger = pd.DataFrame(known, columns=LEDGER_COLUMNS, dtype=object)
    compared = diff(frame(listed), ledger)
    assert list(compared.columns) == [*COLUMNS, "action"]
    assert list(compared["key"]) == [ref.key for ref in listed]
    return dict(zip(compared["key"], compared["action"], strict=True))


@pytest.mark.parametrize(
    ("state", "etag", "size", "indexed_etag", "action"),
    [
        ("indexed", "e1", 10, "e1", "unchanged"),
        ("indexed", "e0", 10, "e0", "changed"),
        ("indexed", "e1", 11, "e1", "changed"),
        ("quarantined", "e1", 10, None, "unchanged"),
        ("quarantined", "e1", 10, "e0", "unchanged"),
        ("quarantined", "e0", 10, None, "changed"),
        ("quarantined", "e0", 10, "e0", "changed"),
        ("quarantined", "e1", 11, None, "changed"),
        ("pending", "e1", 10, None, "new"),
        ("pending", "e0", 10, None, "new"),
        ("pending", "e1", 10, "e0", "changed"),
        ("pending", "e1", 10, "e1", "changed"),
        ("pending", "e0", 10, "e0", "changed"),
        ("deleting", "e1", 10, "e1", "changed"),
        ("deleting", "e0", 10, "e0", "changed"),
        ("deleting", "e1", 10, None, "new"),
    ],
)
def test_an_object_that_the_ledger_knows(
    state: str, etag: str, size: int, indexed_etag: str | None, action: str
) -> None:
    assert compare([ObjectRef("a.md", "e1", 10, 5)], [("a.md", state, etag, size, indexed_etag)]) == {"a.md": action}


def test_objects_that_the_ledger_does_not_know_are_new() -> None:
    listed = [ObjectRef("a.md", "e1", 10, 5), ObjectRef("b.md", "e1", 10, 5)]
    assert compare(listed, []) == {"a.md": "new", "b.md": "new"}
    assert compare(listed, [("b.md", "indexed", "e1", 10, "e1")]) == {"a.md": "new", "b.md": "unchanged"}


def test_a_time_of_writing_alone_changes_nothing() -> None:
    assert compare([ObjectRef("a.md", "e1", 10, 999)], [("a.md", "indexed", "e1", 10, "e1")]) == {"a.md": "unchanged"}


def test_keys_are_compared_letter_by_letter() -> None:
    listed = [ObjectRef(key, "e1", 10, 5) for key in ("A.md", "a.md", "a.md ", "é", "e\u0301")]
    assert compare(listed, [("a.md", "indexed", "e1", 10, "e1")]) == {
        "A.md": "new", "a.md": "unchanged", "a.md ": "new", "é": "new", "e\u0301": "new",
    }  # fmt: skip


def test_an_empty_page_has_nothing_to_do() -> None:
    assert compare([], []) == {}
    assert compare([], [("a.md", "indexed", "e1", 10, "e1")]) == {}


def test_a_plan_in_words() -> None:
    plan = Plan(new=12, changed=3, deleted=1, unchanged=400)
    assert str(plan) == "+12 ~3 -1"
    assert plan.todo == 16
    assert Plan().todo == 0
