"""The ledger knows how old the state of the bucket is that a generation holds, and when an audit last proved it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from blocks.settings import Settings
from flows.audit import audit
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.bucket.listing import pages
from tasks.errors import DeletionError, InconsistentError
from tasks.indexing import plan
from tasks.ledger.database import Database, now
from tasks.ledger.generations import InStep, in_step
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket


def of(name: str, generation: int) -> InStep:
    block = load_pipeline(name)
    with Database(block.ledger) as ledger:
        return in_step(ledger, f"{block.alias}_g{generation:04}")


def test_only_what_ended_well_counts(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    for number in range(4):
        bucket.put(f"{number}.md", f"# Number {number}\n\nThis is the text of number {number}.\n")
    name, began = make_pipeline(), now()
    sync(name)
    first = of(name, 1)
    assert began <= (first.synced_at or 0) <= now()
    assert first.audited_at is None

    audit(name)
    audited = of(name, 1)
    assert audited.synced_at == first.synced_at
    assert (first.synced_at or 0) < (audited.audited_at or 0) <= now()

    for number in range(3):
        bucket.delete(f"{number}.md")
    with pytest.raises(DeletionError):
        sync(name)
    with pytest.raises(InconsistentError):
        audit(name)
    assert of(name, 1) == audited  # neither is in step with the bucket of now

    sync(name, allow_deletions=True)
    assert (of(name, 1).synced_at or 0) > (audited.audited_at or 0)


def test_it_counts_from_the_listing_and_for_each_generation_by_itself(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []

    def noting(*args: Any, **options: Any) -> Any:
        listed.append(now())
        return pages(*args, **options)

    monkeypatch.setattr(plan, "pages", noting)
    bucket.put("a.md", "# A\n\nThe first text.\n")
    name = make_pipeline()
    sync(name)
    assert (of(name, 1).synced_at or 0) <= listed[-1] < now()

    first = of(name, 1)
    rebuild(name, Settings(embed_heading=False))
    assert of(name, 1) == first
    assert (of(name, 2).synced_at or 0) > listed[0]
    rollback(name)  # which syncs what it rolls back to
    assert (of(name, 1).synced_at or 0) > (of(name, 2).synced_at or 0)
