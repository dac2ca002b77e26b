"""What one generation, one writer and one run leave alone of another's, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from tasks.errors import LockstepError
from tasks.generations.canary import QuestionStats, fared
from tasks.indexing.batches import recorded
from tasks.indexing.plan import make_plan
from tasks.ledger import lease, quarantine
from tasks.ledger.canary import Canary, begin_canary, canary_of, end_canary, next_step
from tasks.ledger.database import Database
from tasks.ledger.generations import (
    add_cost,
    follow_alias_in_ledger,
    forget_generation,
    generation_of,
    generations,
    mark_ready,
    newest_number,
    record_generation,
)
from tasks.ledger.missing_keys import missing_keys
from tasks.ledger.objects import (
    change_mark,
    clear_confirmed,
    confirm_indexed,
    confirmed_versions,
    count_objects,
    forget_objects,
    object_rows,
    record_deletions,
    record_suspects,
    record_wanted,
)
from tasks.ledger.tables import GENERATIONS, OBJECTS, WRITERS
from tasks.models import Failure, ObjectRef
from tasks.retrieval.routing import Router

ON, OTHER = "docs_g0001", "docs_g0002"


@pytest.fixture
def block(ledger_url: str) -> LedgerBlock:
    return LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5)


@pytest.fixture
def ledger(block: LedgerBlock) -> Iterator[Database]:
    ledger = Database(block)
    yield ledger
    ledger.engine.dispose()


def ref(key: str, etag: str = "e1") -> ObjectRef:
    return ObjectRef(key, etag, 10, 1_700_000_000_000)


def indexed(ledger: Database, collection: str, *refs: ObjectRef) -> None:
    record_wanted(ledger, collection, refs, "run")
    confirm_indexed(ledger, collection, {one: ["i1"] for one in refs}, [], "run")


def failed(ledger: Database, one: ObjectRef, run: str) -> None:
    record_wanted(ledger, ON, [one], run)
    confirm_indexed(ledger, ON, {}, [Failure(one, "the PDF is damaged")], run)


def test_all_that_a_listing_had_not_is_missing_however_many_pieces_it_takes(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ledger.missing_keys.KEYS_AT_ONCE", 3)
    indexed(ledger, ON, *(ref(f"k{n}") for n in range(9)))
    with missing_keys(ledger, ON) as missing:
        missing.pass_page([ref("k4"), ref("k0")])
        missing.pass_page([ref("k4"), ref("k5a")])
        missing.pass_rest()
        pieces = list(missing.pieces())
    assert [key for piece in pieces for key in piece] == ["k1", "k2", "k3", "k5", "k6", "k7", "k8"]
    assert max(map(len, pieces)) == 3


def test_every_piece_of_what_is_gone_is_recorded_for_deletion(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ledger.missing_keys.KEYS_AT_ONCE", 1)
    indexed(ledger, ON, *(ref(f"k{n}") for n in range(12)))
    plan = make_plan([[ref(f"k{n}") for n in range(9)]], ledger, ON, "run")
    assert plan.deleted == 3
    assert sorted(one.key for one in recorded(ledger, ON, "deleted")) == ["k10", "k11", "k9"]


def test_what_another_generation_holds_is_not_missing_in_this_one(ledger: Database) -> None:
    indexed(ledger, ON, ref("here"), ref("both"))
    indexed(ledger, OTHER, ref("there"), ref("both"))
    with missing_keys(ledger, ON) as missing:
        assert missing.pass_page([ref("both")]).keys() == {"both"}
        missing.pass_rest()
        assert list(missing.pieces()) == [["here"]]


def test_the_same_bytes_that_go_from_another_generation_are_no_rename(ledger: Database) -> None:
    indexed(ledger, OTHER, ref("old", "same"))
    record_deletions(ledger, OTHER, ["old"], "run")
    record_wanted(ledger, ON, [ref("moved", "same")], "run")
    assert list(recorded(ledger, ON, "renamed")) == []
    assert [one.key for one in recorded(ledger, ON, "written")] == ["moved"]


@pytest.mark.parametrize("stage", ["renamed", "deleted", "written"])
def test_the_work_of_another_generation_is_not_done_in_this_one(ledger: Database, stage: Any) -> None:
    indexed(ledger, OTHER, ref("old", "same"))
    record_deletions(ledger, OTHER, ["old"], "run")
    record_wanted(ledger, OTHER, [ref("moved", "same")], "run")
    assert list(recorded(ledger, ON, stage)) == []
    assert len(list(recorded(ledger, OTHER, stage))) == 1


def test_nobody_but_its_holder_extends_or_releases_a_lease(ledger: Database) -> None:
    assert lease.take(ledger, ON, "holder", "the writer") is None
    assert not lease.extend(ledger, ON, "another")
    lease.release(ledger, ON, "another")
    assert lease.take(ledger, ON, "another", "the next") == "the writer"
    assert lease.extend(ledger, ON, "holder")
    lease.release(ledger, ON, "holder")
    assert not lease.extend(ledger, ON, "holder")
    assert lease.take(ledger, ON, "another", "the next") is None


def test_a_lease_is_one_collections(ledger: Database) -> None:
    for collection in (ON, OTHER):
        assert lease.take(ledger, collection, "holder", f"of {collection}") is None
    for collection in (ON, OTHER):
        assert lease.take(ledger, collection, "another", "the next") == f"of {collection}"
    lease.release(ledger, ON, "holder")
    assert lease.take(ledger, OTHER, "another", "the next") == f"of {OTHER}"


def test_a_writer_knows_with_its_next_renewal_that_another_has_its_lease(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it would have lasted."""
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.05)
    with lease.writing(ledger, ON, "the first", 1, print) as check:
        check()
        with ledger.transaction() as connection:
            connection.execute(sa.update(WRITERS).values(holder="another", described="the next"))
        time.sleep(1.0)  # twenty renewals
        with pytest.raises(LockstepError, match="no longer the writer"):
            check()


def test_a_lease_is_counted_from_when_it_was_asked_for(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_was_in_quarantine_before_is_no_sign_of_an_outage(ledger: Database) -> None:
    """However seldom it was tried."""
    failed(ledger, ref("bad"), "run")
    assert quarantine.known_bad(ledger, ON, ["bad"]) == set()
    quarantine.send_to_quarantine(ledger, ON, "run")
    quarantine.retry(ledger, ON)
    assert quarantine.known_bad(ledger, ON, ["bad", "unknown"]) == {"bad"}
    assert quarantine.known_bad(ledger, OTHER, ["bad"]) == set()


def test_what_was_indexed_since_begins_with_a_clean_sheet(ledger: Database) -> None:
    """Then a failure may be the sign of an outage again."""
    failed(ledger, ref("bad"), "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    indexed(ledger, ON, ref("bad"))
    failed(ledger, ref("bad"), "next")
    assert quarantine.known_bad(ledger, ON, ["bad"]) == set()


def test_what_is_to_be_tried_again_is_no_failure_of_the_run_before(ledger: Database) -> None:
    failed(ledger, ref("bad"), "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    assert quarantine.retry(ledger, ON) == ["bad"]
    assert quarantine.failed(ledger, ON, "run", 9) == []
    assert quarantine.send_to_quarantine(ledger, ON, "run") == 0


def test_an_older_version_is_outdated_from_the_first_failure_on(ledger: Database) -> None:
    """Also while nobody has judged whether the file is to blame."""
    indexed(ledger, ON, ref("bad", "e1"), ref("good", "e1"))
    record_wanted(ledger, ON, [ref("good", "e2")], "run")
    failed(ledger, ref("bad", "e2"), "run")
    assert quarantine.outdated(ledger, ON, ["bad", "good"]) == {"bad"}
    indexed(ledger, ON, ref("bad", "e2"))
    assert quarantine.outdated(ledger, ON, ["bad", "good"]) == set()


def test_a_version_that_failed_and_is_the_one_indexed_is_not_outdated(ledger: Database) -> None:
    """As when it is read again because somebody doubted it."""
    indexed(ledger, ON, ref("same"))
    failed(ledger, ref("same"), "run")
    assert quarantine.outdated(ledger, ON, ["same"]) == set()


def test_a_generation_in_canary_answers_beside_the_live_one_that_it_was_begun_beside(
    ledger: Database, block: LedgerBlock
) -> None:
    begin_canary(ledger, Canary("docs", OTHER, ON, (99, 100), 1, 9.0, 1))
    watch = Router("docs", ledger)
    assert watch.collection(ON, "a question") == OTHER
    assert watch.collection("docs_g0003", "a question") == "docs_g0003", "the alias was moved: the canary is over"
    other = Router("manuals", ledger)
    assert other.collection(ON, "a question") == ON


KEYS = [f"k{n}" for n in range(8)]


def all_rows(ledger: Database, collection: str) -> list[Any]:
    with ledger.transaction() as connection:
        objects = sa.select(OBJECTS).where(OBJECTS.c.collection == collection).order_by(OBJECTS.c.key)
        known = sa.select(GENERATIONS).where(GENERATIONS.c.collection == collection)
        return [*connection.execute(objects).all(), *connection.execute(known).all()]


def filled(ledger: Database, collection: str) -> None:
    """Record of a generation an object in each state, under the same keys and versions in every one."""
    record_generation(ledger, collection, "docs", "f", {})
    indexed(ledger, collection, *(ref(key) for key in KEYS[:5]))
    for key in ("k1", "k5"):
        record_wanted(ledger, collection, [ref(key, "e2")], "stopped")
        confirm_indexed(ledger, collection, {}, [Failure(ref(key, "e2"), "damaged")], "stopped")
    quarantine.send_to_quarantine(ledger, collection, "stopped")
    record_wanted(ledger, collection, [ref("k2", "e2"), ref("k6", "e2")], "run")
    confirm_indexed(ledger, collection, {}, [Failure(ref("k6", "e2"), "damaged")], "run")
    record_deletions(ledger, collection, ["k3", "k4"], "run")
    record_wanted(ledger, collection, [ref("k4", "e3"), ref("k7", "e2")], "run")


@pytest.mark.parametrize(
    "work",
    [
        lambda ledger: record_wanted(ledger, ON, [ref(key, "e9") for key in KEYS], "next"),
        lambda ledger: record_deletions(ledger, ON, KEYS, "next"),
        lambda ledger: record_suspects(ledger, ON, KEYS, "next"),
        lambda ledger: clear_confirmed(ledger, ON, KEYS),
        lambda ledger: forget_objects(ledger, ON, KEYS),
        lambda ledger: confirm_indexed(ledger, ON, {ref(key, "e2"): ["i9"] for key in KEYS}, [], "next"),
        lambda ledger: confirm_indexed(ledger, ON, {}, [Failure(ref(key, "e2"), "no") for key in KEYS], "next"),
        lambda ledger: quarantine.send_to_quarantine(ledger, ON, "run"),
        lambda ledger: quarantine.retry(ledger, ON),
        lambda ledger: quarantine.retry(ledger, ON, KEYS),
        lambda ledger: forget_generation(ledger, ON),
        lambda ledger: mark_ready(ledger, ON),
        lambda ledger: add_cost(ledger, ON, 1, 1, 1.0),
        lambda ledger: follow_alias_in_ledger(ledger, "docs", ON),
    ],
)  # fmt: skip
def test_work_on_one_generation_leaves_another_as_it_is(ledger: Database, work: Any) -> None:
    filled(ledger, ON)
    filled(ledger, OTHER)
    here, there = all_rows(ledger, ON), all_rows(ledger, OTHER)
    work(ledger)
    assert all_rows(ledger, ON) != here, "it did something"
    assert all_rows(ledger, OTHER) == there


def test_what_is_read_of_one_generation_is_of_no_other(ledger: Database) -> None:
    state = change_mark(ledger, ON)
    filled(ledger, OTHER)
    assert change_mark(ledger, ON) == state
    assert object_rows(ledger, ON, KEYS) == {}
    assert confirmed_versions(ledger, ON, KEYS) == {}
    assert count_objects(ledger, ON) == {"chunks": 0}
    assert quarantine.quarantined(ledger, ON) == []
    assert quarantine.failed(ledger, ON, "run", 9) == []
    assert list(quarantine.failed_keys(ledger, ON, "run")) == []
    assert quarantine.new_failures(ledger, ON, "run", 9) == (0, [])
    assert quarantine.known_bad(ledger, ON, KEYS) == set()
    assert quarantine.outdated(ledger, ON, KEYS) == set()
    assert quarantine.quarantined_here_alone(ledger, ON, OTHER) == []
    assert [row["key"] for row in quarantine.failed(ledger, OTHER, "run", 9)] == ["k6"]


def test_much_is_recorded_in_pieces_and_all_of_it(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ledger.objects.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("tasks.ledger.quarantine.KEYS_AT_ONCE", 3)
    indexed(ledger, ON, *map(ref, KEYS))
    assert count_objects(ledger, ON) == {"indexed": 8, "chunks": 8}
    for key in KEYS:
        failed(ledger, ref(key, "e2"), "run")
    assert [len(some) for some in quarantine.failed_keys(ledger, ON, "run")] == [3, 3, 2]
    assert quarantine.new_failures(ledger, ON, "run", 2) == (8, KEYS[:2])
    record_deletions(ledger, ON, KEYS, "run")
    assert count_objects(ledger, ON) == {"deleting": 8, "chunks": 8}


def test_what_returns_after_it_was_deleted_is_as_new(ledger: Database) -> None:
    filled(ledger, ON)
    forget_objects(ledger, ON, KEYS)
    found = object_rows(ledger, ON, KEYS)
    assert "k3" not in found, "gone"
    assert (found["k4"].state, found["k4"].etag, found["k4"].indexed_etag) == ("pending", "e3", None)
    assert (found["k0"].state, found["k0"].indexed_etag) == ("indexed", "e1"), "only what was to go is forgotten"
    assert count_objects(ledger, ON)["chunks"] == 3


def test_a_generation_that_is_forgotten_leaves_nothing(ledger: Database) -> None:
    filled(ledger, ON)
    lease.take(ledger, ON, "holder", "the writer")
    forget_generation(ledger, ON)
    assert all_rows(ledger, ON) == []
    assert lease.take(ledger, ON, "another", "the next") is None


def test_an_object_is_newly_bad_when_the_other_generation_answers_with_its_version(ledger: Database) -> None:
    for key in ("a", "b", "c", "d"):
        failed(ledger, ref(key, "e2"), "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    indexed(ledger, OTHER, ref("a", "e2"), ref("b", "e1"), ref("d", "e2"))
    record_deletions(ledger, OTHER, ["d"], "run")
    assert quarantine.quarantined_here_alone(ledger, ON, OTHER) == ["a"]
    assert quarantine.quarantined_here_alone(ledger, ON, "docs_g0003") == []


def test_what_is_settled_is_one_aliass_and_keeps_its_times(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1, 100))
    monkeypatch.setattr("tasks.ledger.generations.now", lambda: next(times))
    for alias in ("docs", "manuals"):
        for number in (1, 2):
            record_generation(ledger, f"{alias}_g000{number}", alias, "f", {})
    follow_alias_in_ledger(ledger, "manuals", "manuals_g0001")
    follow_alias_in_ledger(ledger, "docs", ON)
    first = generation_of(ledger, "docs", ON)
    follow_alias_in_ledger(ledger, "docs", ON)
    assert generation_of(ledger, "docs", ON) == first, "said once, it is not said again"
    moved = {one.number: one.state(OTHER) for one in generations(ledger, "docs")}
    assert moved == {2: "live", 1: "retired"}, "the alias was moved, and the ledger does not say so yet"
    follow_alias_in_ledger(ledger, "docs", OTHER)
    states = {one.number: (one.state(OTHER), one.settled) for one in generations(ledger, "docs")}
    assert states == {2: ("live", True), 1: ("retired", False)}
    assert generations(ledger, "manuals")[1].settled, "another alias has its own"
    follow_alias_in_ledger(ledger, "docs", ON)
    states = {one.number: (one.state(ON), one.settled) for one in generations(ledger, "docs")}
    assert states == {2: ("retired", False), 1: ("live", True)}
    assert newest_number(ledger, "docs") == 2
    record_generation(ledger, "manuals_g0007", "manuals", "f", {})
    assert newest_number(ledger, "docs") == 2


def test_a_canary_is_judged_by_its_own_questions_since_its_step_began(
    ledger: Database, block: LedgerBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1, 100))
    for module in ("tasks.retrieval.routing", "tasks.ledger.canary"):
        monkeypatch.setattr(f"{module}.now", lambda: next(times))
    watches = {}
    for alias in ("docs", "manuals"):
        begin_canary(ledger, Canary(alias, OTHER, ON, (50, 100), 0, 9.0, 1))
        watches[alias] = Router(alias, ledger)
    watches["docs"].note(OTHER, 8.0, None)  # at 1
    watches["docs"].note(OTHER, 1.0, 0.5)
    watches["docs"].note(OTHER, 1.0, 0.25, abstained=True)
    watches["docs"].note(ON, 4.0, 0.75)
    watches["manuals"].note(OTHER, 9.0, None)
    assert fared(ledger, "docs", OTHER) == QuestionStats(3, 1 / 3, 1.0, 0.5, 0.375)
    assert fared(ledger, "docs", OTHER, since=2) == QuestionStats(2, 0.0, 1.0, 0.5, 0.375)
    assert fared(ledger, "docs", ON) == QuestionStats(1, 0.0, 4.0, 0.0, 0.75)
    assert fared(ledger, "manuals", OTHER) == QuestionStats(1, 1.0, 0.0, 0.0, 0.0)
    next_step(ledger, "docs", 1)
    going, other = canary_of(ledger, "docs"), canary_of(ledger, "manuals")
    assert going
    assert other
    assert (going.step, going.since) == (1, 6)
    assert (other.step, other.since) == (0, 1)
    begin_canary(ledger, Canary("docs", OTHER, ON, (10,), 0, 9.0, 7))
    assert fared(ledger, "docs", OTHER).questions == 0, "what was asked during another one is forgotten"
    assert fared(ledger, "manuals", OTHER).questions == 1
    end_canary(ledger, "docs")
    assert canary_of(ledger, "docs") is None
    assert canary_of(ledger, "manuals") == other
