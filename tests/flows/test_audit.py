"""An audit proves that the index is what the bucket says. What it finds otherwise: tests/faults/test_audit_mends.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.audit import audit
from flows.sync import sync
from tasks.errors import InconsistentError
from tests.support.servers import Bucket


def test_what_is_in_quarantine_is_told_and_no_inconsistency(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    bucket.put("good.txt", "A text that can be read by everybody.")
    bucket.put("bad.pdf", b"%PDF-1.4 and nothing more")
    name = make_pipeline()
    sync(name)
    found = audit(name)
    assert found.consistent
    assert found.keys["quarantined"] == ["bad.pdf"]


def test_many_keys_are_compared_in_bounded_pieces(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.indexing.audit.KEYS_AT_ONCE", 4)
    monkeypatch.setattr("tasks.indexing.audit.ROWS_AT_ONCE", 3)
    for number in range(13):
        bucket.put(f"n/{number:02d}.txt", f"This is the text of object number {number}, one of many.")
    name = make_pipeline()
    sync(name)
    for number in (3, 12):
        bucket.delete(f"n/{number:02d}.txt")
    with pytest.raises(InconsistentError, match="2 orphaned") as caught:
        audit(name)
    found = caught.value.found
    assert (found.objects, found.chunks) == (11, 13)
    assert found.keys["orphaned"] == ["n/03.txt", "n/12.txt"]
    assert audit(name, sync_first=True).consistent
