"""What one generation, one writer and one run leave alone of another's, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from blocks.pipeline import Pipeline
from tasks import failures, lease
from tasks.batches import recorded
from tasks.canary import Canary, Watch, begin_canary
from tasks.errors import LockstepError
from tasks.ledger import Ledger
from tasks.models import Failure, ObjectRef
from tasks.seen import seen_keys

ON, OTHER = "docs_g0001", "docs_g0002"


@pytest.fixture
def block(ledger_url: str) -> LedgerBlock:
    return LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5)


@pytest.fixture
def ledger(block: LedgerBlock) -> Iterator[Ledger]:
    ledger = Ledger(block)
    yield ledger
    ledger.engine.dispose()


def ref(key: str, etag: str = "e1") -> ObjectRef:
    return ObjectRef(key, etag, 10, 1_700_000_000_000)


def indexed(ledger: Ledger, collection: str, *refs: ObjectRef) -> None:
    ledger.intend(collection, refs, "run")
    ledger.confirm(collection, {one: ["i1"] for one in refs}, [], "run")


def failed(ledger: Ledger, one: ObjectRef, run: str) -> None:
    ledger.intend(ON, [one], run)
    ledger.confirm(ON, {}, [Failure(one, "the PDF is damaged")], run)


def test_all_that_a_listing_had_not_is_missing_however_many_pieces_it_takes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.seen.KEYS_AT_ONCE", 3)
    indexed(ledger, ON, *(ref(f"k{n}") for n in range(9)))
    with seen_keys(ledger) as seen:
        seen.add(["k4", "k0"])
        seen.add(["k4", "new"])
        pieces = list(seen.missing(ON))
    assert [key for piece in pieces for key in piece] == ["k1", "k2", "k3", "k5", "k6", "k7", "k8"]
    assert max(map(len, pieces)) == 3


def test_what_another_generation_holds_is_not_missing_in_this_one(ledger: Ledger) -> None:
    indexed(ledger, ON, ref("here"), ref("both"))
    indexed(ledger, OTHER, ref("there"), ref("both"))
    with seen_keys(ledger) as seen:
        seen.add(["both"])
        assert list(seen.missing(ON)) == [["here"]]


def test_the_same_bytes_that_go_from_another_generation_are_no_rename(ledger: Ledger) -> None:
    indexed(ledger, OTHER, ref("old", "same"))
    ledger.intend_deletion(OTHER, ["old"], "run")
    ledger.intend(ON, [ref("moved", "same")], "run")
    assert list(recorded(ledger, ON, "renamed")) == []
    assert [one.key for one in recorded(ledger, ON, "written")] == ["moved"]


@pytest.mark.parametrize("stage", ["renamed", "deleted", "written"])
def test_the_work_of_another_generation_is_not_done_in_this_one(ledger: Ledger, stage: Any) -> None:
    indexed(ledger, OTHER, ref("old", "same"))
    ledger.intend_deletion(OTHER, ["old"], "run")
    ledger.intend(OTHER, [ref("moved", "same")], "run")
    assert list(recorded(ledger, ON, stage)) == []
    assert len(list(recorded(ledger, OTHER, stage))) == 1


def test_nobody_but_its_holder_extends_or_releases_a_lease(ledger: Ledger) -> None:
    assert lease.take(ledger, ON, "holder", "the writer") is None
    assert not lease.extend(ledger, ON, "another")
    lease.release(ledger, ON, "another")
    assert lease.take(ledger, ON, "another", "the next") == "the writer"
    assert lease.extend(ledger, ON, "holder")
    lease.release(ledger, ON, "holder")
    assert not lease.extend(ledger, ON, "holder")
    assert lease.take(ledger, ON, "another", "the next") is None


def test_a_lease_is_one_collections(ledger: Ledger) -> None:
    for collection in (ON, OTHER):
        assert lease.take(ledger, collection, "holder", f"of {collection}") is None
    lease.release(ledger, ON, "holder")
    assert lease.take(ledger, OTHER, "another", "the next") == f"of {OTHER}"


def test_a_lease_is_counted_from_when_it_was_asked_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer may take longer than the lease lasts: meanwhile another may have become the writer."""
    monkeypatch.setattr(lease, "LASTS_MS", 1000)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.05)
    extend, answered, over = lease.extend, threading.Event(), threading.Event()

    def slowly(*given: Any, **more: Any) -> Any:
        if answered.is_set():
            over.wait(20)
        found = extend(*given, **more)
        time.sleep(1.2)
        answered.set()
        return found

    monkeypatch.setattr(lease, "extend", slowly)
    with lease.writing(ledger, ON, "the writer", 1, print) as check:
        assert answered.wait(20)
        time.sleep(0.1)  # it has heard the answer
        try:
            with pytest.raises(LockstepError, match="no longer the writer"):
                check()
        finally:
            over.set()


def test_what_was_in_quarantine_before_is_no_sign_of_an_outage(ledger: Ledger) -> None:
    """However seldom it was tried."""
    failed(ledger, ref("bad"), "run")
    assert failures.known_bad(ledger, ON, ["bad"]) == set()
    failures.send_to_quarantine(ledger, ON, "run")
    failures.retry(ledger, ON)
    assert failures.known_bad(ledger, ON, ["bad", "unknown"]) == {"bad"}
    assert failures.known_bad(ledger, OTHER, ["bad"]) == set()


def test_an_older_version_is_outdated_from_the_first_failure_on(ledger: Ledger) -> None:
    """Also while nobody has judged whether the file is to blame."""
    indexed(ledger, ON, ref("bad", "e1"), ref("good", "e1"))
    ledger.intend(ON, [ref("good", "e2")], "run")
    failed(ledger, ref("bad", "e2"), "run")
    assert failures.outdated(ledger, ON, ["bad", "good"]) == {"bad"}
    indexed(ledger, ON, ref("bad", "e2"))
    assert failures.outdated(ledger, ON, ["bad", "good"]) == set()


def test_a_version_that_failed_and_is_the_one_indexed_is_not_outdated(ledger: Ledger) -> None:
    """As when it is read again because somebody doubted it."""
    indexed(ledger, ON, ref("same"))
    failed(ledger, ref("same"), "run")
    assert failures.outdated(ledger, ON, ["same"]) == set()


def test_a_generation_in_canary_answers_beside_the_live_one_that_it_was_begun_beside(
    ledger: Ledger, block: LedgerBlock
) -> None:
    begin_canary(ledger, Canary("docs", OTHER, ON, (99, 100), 1, 9.0, 1))
    watch = Watch(cast(Pipeline, SimpleNamespace(alias="docs", ledger=block)))
    assert watch.collection(ON, "a question") == OTHER
    assert watch.collection("docs_g0003", "a question") == "docs_g0003", "the alias was moved: the canary is over"
    other = Watch(cast(Pipeline, SimpleNamespace(alias="manuals", ledger=block)))
    assert other.collection(ON, "a question") == ON
