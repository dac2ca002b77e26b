"""What a listing and the ledger say has to be done."""

from __future__ import annotations

import pytest

from tasks.indexing.compare import compare
from tasks.indexing.plan import Plan
from tasks.ledger.objects import ObjectRow
from tasks.models import ObjectRef


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
    assert compare(ObjectRef("a.md", "e1", 10, 5), ObjectRow(state, etag, size, indexed_etag)) == action


def test_objects_that_the_ledger_does_not_know_are_new() -> None:
    assert compare(ObjectRef("a.md", "e1", 10, 5), None) == "new"


def test_a_time_of_writing_alone_changes_nothing() -> None:
    assert compare(ObjectRef("a.md", "e1", 10, 999), ObjectRow("indexed", "e1", 10, "e1")) == "unchanged"


def test_a_plan_in_words() -> None:
    plan = Plan(new=12, changed=3, deleted=1, unchanged=400)
    assert str(plan) == "+12 ~3 -1"
    assert plan.todo == 16
    assert Plan().todo == 0
