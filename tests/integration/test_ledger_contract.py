"""What the ledger promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from blocks.settings import Settings
from tasks.errors import LockstepError, PartError, TransientError
from tasks.indexing.batches import batched, recorded
from tasks.indexing.plan import make_plan
from tasks.ledger import lease, quarantine
from tasks.ledger.database import Database, now
from tasks.ledger.objects import (
    change_mark,
    confirm_indexed,
    confirmed_versions,
    count_objects,
    forget_objects,
    not_arrived,
    record_deletions,
    record_wanted,
)
from tasks.ledger.tables import NEWEST, OBJECTS, TABLES
from tasks.limits import WRITE_SECONDS
from tasks.models import WRITTEN, Failure, Loss, ObjectRef

ON = "docs_g0001"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Database]:
    ledger = Database(LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5))
    yield ledger
    ledger.engine.dispose()


def ref(key: str, etag: str = "e1", size: int = 10) -> ObjectRef:
    return ObjectRef(key, etag, size, 1_700_000_000_000)


def plan_and_do(ledger: Database, refs: list[ObjectRef]) -> tuple[int, int, int, int]:
    plan = make_plan([refs], ledger, ON, "run")
    for one in list(recorded(ledger, ON, "written")):
        confirm_indexed(ledger, ON, {one: ["i1", "i2", "i3"]}, [], "run")
    forget_objects(ledger, ON, [one.key for one in recorded(ledger, ON, "deleted")])
    return plan.new, plan.changed, plan.deleted, plan.unchanged


def test_the_migrations_make_the_tables_that_the_code_uses(ledger: Database) -> None:
    found = sa.inspect(ledger.engine)
    for table in TABLES.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
    with ledger.transaction() as connection:
        assert connection.execute(sa.text("select version_num from lockstep_version")).scalar() == NEWEST


def test_a_ledger_of_a_newer_version_is_refused(ledger: Database, ledger_url: str) -> None:
    with ledger.transaction() as connection:
        connection.execute(sa.text("update lockstep_version set version_num = '9999'"))
    with pytest.raises(PartError, match="Upgrade Lockstep"):
        Database(LedgerBlock(url=SecretStr(ledger_url)))


def test_many_processes_may_open_an_empty_database_at_once(ledger_url: str) -> None:
    failures: list[Exception] = []

    def open_it() -> None:
        try:
            Database(LedgerBlock(url=SecretStr(ledger_url))).engine.dispose()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_plan_follows_the_listing(ledger: Database) -> None:
    assert plan_and_do(ledger, [ref("a"), ref("b"), ref("ü")]) == (3, 0, 0, 0)
    assert plan_and_do(ledger, [ref("a"), ref("b"), ref("ü")]) == (0, 0, 0, 3)
    assert plan_and_do(ledger, [ref("a", "e2"), ref("c")]) == (1, 1, 2, 0)
    assert plan_and_do(ledger, [ref("a", "e2"), ref("c")]) == (0, 0, 0, 2)
    assert count_objects(ledger, ON) == {"chunks": 6, "indexed": 2}
    assert plan_and_do(ledger, []) == (0, 0, 2, 0)
    assert count_objects(ledger, ON) == {"chunks": 0}


def test_an_interrupted_listing_deletes_nothing(ledger: Database) -> None:
    plan_and_do(ledger, [ref("a"), ref("b")])

    def breaks() -> Iterator[list[ObjectRef]]:
        yield [ref("a")]
        raise TransientError("S3: gone")

    with pytest.raises(TransientError):
        make_plan(breaks(), ledger, ON, "run")
    assert count_objects(ledger, ON) == {"chunks": 6, "indexed": 2}


def test_work_that_was_left_is_planned_again(ledger: Database) -> None:
    record_wanted(ledger, ON, [ref("never-confirmed")], "died")
    plan_and_do(ledger, [ref("never-confirmed"), ref("kept"), ref("was-going")])
    record_wanted(ledger, ON, [ref("kept", "e2")], "died")
    record_deletions(ledger, ON, ["was-going"], "died")
    plan = make_plan([[ref("never-confirmed"), ref("kept", "e2"), ref("was-going")]], ledger, ON, "run")
    assert (plan.new, plan.changed, plan.deleted, plan.unchanged) == (0, 2, 0, 1)


def test_a_deletion_stays_recorded_until_it_is_confirmed(ledger: Database) -> None:
    plan_and_do(ledger, [ref("a"), ref("b")])
    for _ in range(2):
        assert make_plan([[ref("a")]], ledger, ON, "run").deleted == 1
        assert [one.key for one in recorded(ledger, ON, "deleted")] == ["b"]
    forget_objects(ledger, ON, ["a", "b"])
    assert count_objects(ledger, ON) == {"chunks": 3, "indexed": 1}


@pytest.mark.parametrize(
    ("listed", "lost"),
    [
        ([], 4),
        ([ref("a", "same"), ref("moved", "same")], 1),  # each of those that are listed stands for one that is not
        ([ref("x", "same"), ref("y", "same"), ref("z", "same"), ref("w", "same")], 0),
        ([ref("x", "same", 11), ref("y", "other")], 4),
    ],
)
def test_what_is_listed_elsewhere_is_not_lost(ledger: Database, listed: list[ObjectRef], lost: int) -> None:
    plan_and_do(ledger, [ref(key, "same") for key in "abcd"])
    told: list[Loss] = []
    make_plan([listed], ledger, ON, "run", agree=told.append)
    (loss,) = told
    assert (loss.held, loss.lost, len(loss.keys)) == (4, lost, lost)


def test_when_an_object_was_written_says_nothing_of_its_bytes(ledger: Database) -> None:
    """Where a server has no ETags, objects that were copied at once are of the same second."""
    plan_and_do(ledger, [ref(key, f"{WRITTEN}1700000000") for key in "abcd"])
    told: list[Loss] = []
    make_plan([[ref("new", f"{WRITTEN}1700000000")]], ledger, ON, "run", agree=told.append)
    assert told[0].lost == 4


def test_what_was_moved_has_arrived_when_it_is_indexed(ledger: Database) -> None:
    plan_and_do(ledger, [ref("old", "one"), ref("gone", "two"), ref("stays", "three")])
    make_plan([[ref("new", "one"), ref("stays", "three")]], ledger, ON, "run")
    assert not_arrived(ledger, ON) == (["old"], 3)
    confirm_indexed(ledger, ON, {ref("new", "one"): ["i1"]}, [], "run")
    assert not_arrived(ledger, ON) == ([], 4)


def test_renames_come_before_deletions_and_the_rest(ledger: Database) -> None:
    plan_and_do(ledger, [ref("old", "same")])
    make_plan([[ref("a-new", "other"), ref("moved", "same")]], ledger, ON, "run")
    assert [one.key for one in recorded(ledger, ON, "renamed")] == ["moved"]
    assert [one.key for one in recorded(ledger, ON, "deleted")] == ["old"]
    assert [one.key for one in recorded(ledger, ON, "written")] == ["a-new", "moved"]


def test_recorded_work_is_read_in_pieces_while_it_is_confirmed(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.indexing.batches.ROWS_AT_ONCE", 4)
    make_plan([[ref(f"k{n:02d}") for n in range(19)]], ledger, ON, "run")
    done = []
    for group in batched(recorded(ledger, ON, "written"), Settings(batch_objects=3)):
        confirm_indexed(ledger, ON, {key: ["i1"] for key in group}, [], "run")
        done += group
    assert [one.key for one in done] == [f"k{n:02d}" for n in range(19)]


def test_a_database_that_stumbles_while_work_is_read_is_asked_again(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan([[ref("a"), ref("b")]], ledger, ON, "run")
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))
    transaction, stumbles = ledger.transaction, [2]

    def stumble() -> Any:
        stumbles[0] -= 1
        if stumbles[0] >= 0:
            raise TransientError("Ledger: it is restarting")
        return transaction()

    monkeypatch.setattr(ledger, "transaction", stumble)
    assert [one.key for one in recorded(ledger, ON, "written")] == ["a", "b"]
    stumbles[0] = 2
    with lease.writing(ledger, ON, "a sync", 0, lambda _line: None):
        stumbles[0] = 100
    with pytest.raises(TransientError, match="restarting"):
        list(recorded(ledger, ON, "written"))


def test_quarantine_keeps_reason_attempts_and_since_when(ledger: Database) -> None:
    make_plan([[ref("bad")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {}, [Failure(ref("bad"), "the PDF is damaged")], "run")
    assert quarantine.quarantined(ledger, ON) == []
    assert [row["key"] for row in quarantine.failed(ledger, ON, "run", 10)] == ["bad"]
    assert quarantine.send_to_quarantine(ledger, ON, "another run") == 0
    assert quarantine.send_to_quarantine(ledger, ON, "run") == 1
    first = quarantine.quarantined(ledger, ON)[0]
    assert (first["reason"], first["attempts"], first["indexed_etag"]) == ("the PDF is damaged", 1, None)
    assert make_plan([[ref("bad")]], ledger, ON, "run").unchanged == 1
    time.sleep(0.01)
    make_plan([[ref("bad", "e2")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {}, [Failure(ref("bad", "e2"), "still damaged")], "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    second = quarantine.quarantined(ledger, ON)[0]
    assert (second["reason"], second["attempts"]) == ("still damaged", 1)
    assert second["since"] > first["since"]  # of another version
    quarantine.retry(ledger, ON)
    make_plan([[ref("bad", "e2")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {}, [Failure(ref("bad", "e2"), "half a \ud800 surrogate and a \x00")], "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    third = quarantine.quarantined(ledger, ON)[0]
    assert (third["attempts"], third["since"]) == (2, second["since"])
    make_plan([[ref("bad", "e3")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {ref("bad", "e3"): ["i1", "i2", "i3", "i4"]}, [], "run")
    assert quarantine.quarantined(ledger, ON) == []
    assert count_objects(ledger, ON) == {"chunks": 4, "indexed": 1}


def test_what_is_asked_of_some_keys_is_told_of_no_others(ledger: Database) -> None:
    """The keys of a tenant begin alike; others differ by case alone, or by what LIKE takes for any character."""
    own, others = ["a_é%/good", "a_é%/bad"], ["A_é%/x", "aXé%/x", "a_é%x", "b/x"]
    make_plan([[ref(key) for key in (*own, *others)]], ledger, ON, "run")
    good = {ref(key): ["i1", "i2"] for key in (own[0], others[0])}
    confirm_indexed(ledger, ON, good, [Failure(ref(key), "damaged") for key in (own[1], *others[1:])], "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    assert [row["key"] for row in quarantine.quarantined(ledger, ON, start="a_é%/")] == [own[1]]
    assert len(quarantine.quarantined(ledger, ON)) == 4
    assert count_objects(ledger, ON, "a_é%/") == {"chunks": 2, "indexed": 1, "quarantined": 1}
    assert count_objects(ledger, ON) == {"chunks": 4, "indexed": 2, "quarantined": 4}


def test_what_a_run_left_unjudged_is_tried_again(ledger: Database) -> None:
    make_plan([[ref("bad")]], ledger, ON, "stopped")
    confirm_indexed(ledger, ON, {}, [Failure(ref("bad"), "the parser is down")], "stopped")
    make_plan([[ref("bad")]], ledger, ON, "run")
    assert [one.key for one in recorded(ledger, ON, "written")] == ["bad"]
    assert quarantine.send_to_quarantine(ledger, ON, "run") == 0


def test_what_failed_is_not_read_again_in_the_same_run(ledger: Database) -> None:
    plan_and_do(ledger, [ref("old", "same")])
    make_plan([[ref("moved", "same")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {}, [Failure(ref("moved", "same"), "damaged")], "run")
    assert list(recorded(ledger, ON, "written")) == []


def test_what_fails_in_a_third_run_is_no_sign_of_an_outage(ledger: Database) -> None:
    for run, known in (("one", set()), ("two", set()), ("three", {"bad"})):
        make_plan([[ref("bad")]], ledger, ON, run)
        assert quarantine.known_bad(ledger, ON, ["bad"]) == known
        confirm_indexed(ledger, ON, {}, [Failure(ref("bad"), "damaged")], run)
    make_plan([[ref("bad", "e2")]], ledger, ON, "four")
    assert quarantine.known_bad(ledger, ON, ["bad"]) == set()


def test_what_the_bucket_withholds_is_an_outage_for_hours_however_often_it_was_tried(ledger: Database) -> None:
    began = now()
    for run in ("one", "two", "three"):
        make_plan([[ref("held")]], ledger, ON, run)
        confirm_indexed(ledger, ON, {}, [Failure(ref("held"), "AccessDenied", withheld=True)], run)
    assert quarantine.known_bad(ledger, ON, ["held"]) == {"held"}
    assert quarantine.known_bad(ledger, ON, ["held"], failing_since=began - 1) == set()
    assert quarantine.known_bad(ledger, ON, ["held"], failing_since=now()) == {"held"}
    make_plan([[ref("held", "e2")]], ledger, ON, "four")  # another version: its time begins anew
    for run in ("five", "six"):
        time.sleep(0.005)
        began = now()
        confirm_indexed(ledger, ON, {}, [], run, [ref("held", "e2")])
    assert quarantine.known_bad(ledger, ON, ["held"], failing_since=began - 1) == {"held"}
    assert count_objects(ledger, ON) == {"chunks": 0, "pending": 1}


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 15), (2, 60), (3, 135), (9, 1215), (10, 1440), (60_000, 1440)])
def test_what_the_bucket_withheld_is_tried_again_ever_more_seldom(
    ledger: Database, attempts: int, minutes: int
) -> None:
    make_plan([[ref("held"), ref("bad")]], ledger, ON, "run")
    said = [Failure(ref("held"), "AccessDenied", withheld=True), Failure(ref("bad"), "damaged")]
    confirm_indexed(ledger, ON, {}, said, "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    with ledger.transaction() as connection:
        connection.execute(sa.update(OBJECTS).values(attempts=attempts, updated_at=1_000))
    due = 1_000 + minutes * 60_000
    assert quarantine.retry_withheld(ledger, ON, due - 1) == (0, 0)
    assert quarantine.retry_withheld(ledger, "another_g0001", due) == (0, 0)
    assert quarantine.retry_withheld(ledger, ON, due) == (1, 0)
    assert make_plan([[ref("held"), ref("bad")]], ledger, ON, "next").unchanged == 1
    assert [one.key for one in recorded(ledger, ON, "written")] == ["held"]
    # Once it was read, the time for the next failure of this version begins anew.
    confirm_indexed(ledger, ON, {ref("held"): ["i1"]}, [], "next")
    assert quarantine.known_bad(ledger, ON, ["held"]) == set()


def test_a_retried_object_leaves_the_quarantine_for_the_next_plan(ledger: Database) -> None:
    make_plan([[ref("bad"), ref("worse")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {}, [Failure(ref(key), "damaged") for key in ("bad", "worse")], "run")
    quarantine.send_to_quarantine(ledger, ON, "run")
    assert quarantine.outdated(ledger, ON, ["bad", "good"]) == {"bad"}
    assert quarantine.retry(ledger, ON, ["bad", "unknown"]) == ["bad"]
    assert make_plan([[ref("bad"), ref("worse")]], ledger, ON, "next").unchanged == 1
    assert [one.key for one in recorded(ledger, ON, "written")] == ["bad"]
    assert quarantine.retry(ledger, ON) == ["worse"]


def test_a_deletion_is_done_also_when_the_object_is_back(ledger: Database) -> None:
    plan_and_do(ledger, [ref("a")])
    make_plan([[]], ledger, ON, "died")
    for _ in range(2):
        make_plan([[ref("a", "e2")]], ledger, ON, "run")
        assert [one.key for one in recorded(ledger, ON, "deleted")] == ["a"]
        assert list(recorded(ledger, ON, "written")) == []
    forget_objects(ledger, ON, ["a"])
    assert list(recorded(ledger, ON, "deleted")) == []
    assert [one.etag for one in recorded(ledger, ON, "written")] == ["e2"]
    assert confirmed_versions(ledger, ON, ["a"]) == {"a": (None, None)}
    make_plan([[ref("a", "e2")], [ref("b")]], ledger, ON, "run")
    assert [one.key for one in recorded(ledger, ON, "written")] == ["a", "b"]


def test_a_version_that_is_no_longer_wanted_is_not_confirmed(ledger: Database) -> None:
    make_plan([[ref("a", "e1")]], ledger, ON, "run")
    make_plan([[ref("a", "e2")]], ledger, ON, "run")
    confirm_indexed(ledger, ON, {ref("a", "e1"): ["i1"]}, [], "run")
    assert [one.etag for one in recorded(ledger, ON, "written")] == ["e2"]


def test_keys_that_differ_in_case_or_accents_are_different(ledger: Database) -> None:
    keys = ["a", "A", "á", "ä", "a ", "ａ", "\U0001f600", 'q"', "b\\"]
    assert plan_and_do(ledger, [ref(key) for key in keys]) == (len(keys), 0, 0, 0)
    assert plan_and_do(ledger, [ref(key) for key in keys]) == (0, 0, 0, len(keys))


def test_one_writer_at_a_time(ledger: Database) -> None:
    said: list[str] = []
    with (
        lease.writing(ledger, ON, "the first", 1, said.append),
        pytest.raises(TransientError, match="being written by the first"),
        lease.writing(ledger, ON, "the second", 0.6, said.append),
    ):
        pytest.fail("both were let in")
    assert "waiting" in said[0]
    with lease.writing(ledger, ON, "the third", 1, said.append), lease.writing(ledger, "other_g0001", "x", 1, print):
        pass


def test_a_writer_that_died_frees_the_way(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LASTS_MS", 300)
    assert lease.take(ledger, ON, "dead", "one that died") is None
    began = time.monotonic()
    with lease.writing(ledger, ON, "the next", 5, lambda _line: None):
        assert time.monotonic() - began < 4


def test_the_way_is_free_within_two_minutes_and_a_write_ends_before() -> None:
    assert lease.LASTS_MS <= 120_000
    assert lease.RENEWED_EVERY_SECONDS * 3000 <= lease.LASTS_MS
    assert 3 * WRITE_SECONDS + 3 < lease.LASTS_MS / 2000


def test_a_write_begins_only_while_it_can_end_within_the_lease(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that cannot renew stops early enough: what it still writes has ended when the next one may begin."""
    monkeypatch.setattr(lease, "LASTS_MS", 4000)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 60)
    with lease.writing(ledger, ON, "cut off", 1, print) as check:
        check()
        time.sleep(2.1)
        with pytest.raises(TransientError, match="no longer the writer"):
            check()
        assert lease.take(ledger, ON, "other", "the next") == "cut off"


def test_who_writes_is_decided_by_the_clock_of_the_ledger(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour ahead takes no lease away, and one that is behind lets go of none too late."""
    real = time.time
    with lease.writing(ledger, ON, "the first", 1, print) as check:
        for offset in (3600, -3600):
            monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
            assert lease.take(ledger, ON, "other", "the second") == "the first"
            check()
    monkeypatch.setattr(lease, "LASTS_MS", 200)
    assert lease.take(ledger, ON, "behind", "one whose clock is behind") is None
    monkeypatch.setattr(time, "time", real)
    with ledger.transaction() as connection:
        ends = connection.execute(sa.text("select expires_at from lockstep_writers")).scalar_one()
    assert abs(ends / 1000 - real()) < 60


def test_the_holder_s_clock_goes_on_while_the_machine_sleeps() -> None:
    import sys

    before = lease.elapsed()
    time.sleep(0.01)
    assert lease.elapsed() > before
    assert abs(lease.elapsed() - time.clock_gettime(lease._CLOCK)) < 60
    if sys.platform == "linux":
        assert lease._CLOCK == time.CLOCK_BOOTTIME


def test_its_state_differs_after_every_sync_that_changed_something(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1, 1000))
    monkeypatch.setattr("tasks.ledger.objects.now", lambda: next(times))
    states = [change_mark(ledger, ON)]
    for refs in ([ref("a"), ref("b")], [ref("a", "e2"), ref("b")], [ref("a", "e2")], [ref("c")], []):
        plan_and_do(ledger, refs)
        states.append(change_mark(ledger, ON))
        plan_and_do(ledger, refs)
        assert change_mark(ledger, ON) == states[-1], "a sync that changes nothing changes no state"
    assert len(set(states[:-1])) == len(states) - 1
    assert states[-1] == states[0], "empty as in the beginning"
    assert change_mark(ledger, "docs_g0002") == states[0]


def test_a_long_writer_keeps_its_lease(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LASTS_MS", 600)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.1)
    with lease.writing(ledger, ON, "the first", 1, print):
        time.sleep(1.2)
        assert lease.take(ledger, ON, "other", "the second") == "the first"


def test_a_wrong_url_is_explained() -> None:
    with pytest.raises(PartError, match="LEDGER_URL"):
        Database(LedgerBlock(url=SecretStr("nonsense")))
    with pytest.raises((PartError, TransientError), match="LEDGER_URL"):
        Database(LedgerBlock(url=SecretStr("sqlite:////no/such/folder/ledger.db")))


@pytest.mark.parametrize("url", [
    "sqlite:///ledger.db", "sqlite:///./ledger.db", "sqlite:///file:ledger.db?uri=true", "sqlite://",
    "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite:///file:/l?mode=memory&uri=true",
])  # fmt: skip
def test_a_database_that_is_another_one_for_the_worker_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that was made in the Prefect UI passed no check of the environment."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PartError, match=r"Ledger: .* a different one in each (folder|process)\. .*sqlite:////folder/x\.db"
    ):
        Database(LedgerBlock(url=SecretStr(url)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TransientError, match="LEDGER_URL"):
        Database(LedgerBlock(url=SecretStr("postgresql://a:secret@127.0.0.1:9/x"), timeout_seconds=2))


def test_a_writer_that_lost_its_lease_writes_no_more(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LASTS_MS", 200)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 60)
    with lease.writing(ledger, ON, "the sleeper", 1, print) as check:
        check()
        time.sleep(0.3)
        assert lease.take(ledger, ON, "other", "the next") is None
        with pytest.raises(LockstepError, match="no longer the writer"):
            check()


def test_a_lease_that_another_had_meanwhile_does_not_come_back(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned before may be older than what the other wrote, although the way is free again."""
    monkeypatch.setattr(lease, "LASTS_MS", 200)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.6)
    with lease.writing(ledger, ON, "the sleeper", 1, print) as check:
        time.sleep(0.3)
        with lease.writing(ledger, ON, "the next", 0, print):
            pass
        monkeypatch.setattr(lease, "LASTS_MS", 60_000)
        time.sleep(0.8)  # it has renewed its lease, or tried to
        with pytest.raises(LockstepError, match="no longer the writer"):
            check()
        assert lease.take(ledger, ON, "third", "a third") is None


def test_a_lease_that_nobody_took_meanwhile_goes_on(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that was away for a minute ends no sync."""
    monkeypatch.setattr(lease, "LASTS_MS", 200)
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.6)
    with lease.writing(ledger, ON, "the first", 1, print) as check:
        time.sleep(0.3)
        with pytest.raises(LockstepError, match="no longer the writer"):
            check()
        monkeypatch.setattr(lease, "LASTS_MS", 60_000)
        time.sleep(0.8)
        check()
        assert lease.take(ledger, ON, "other", "the second") == "the first"


def test_a_full_disk_is_no_reason_to_try_again(postgres_url: str) -> None:
    """The server's own error for it, raised without filling a disk. A full SQLite is shown by tests/faults."""
    full = (
        "do $$ begin raise exception 'could not extend file \"base/1\": No space' using errcode = 'disk_full'; end $$"
    )
    ledger = Database(LedgerBlock(url=SecretStr(postgres_url)))
    with pytest.raises(PartError, match="disk of the ledger is full"), ledger.transaction() as connection:
        connection.exec_driver_sql(full)
    ledger.engine.dispose()


def test_a_password_is_never_in_the_message() -> None:
    with pytest.raises(PartError) as caught:
        Database(LedgerBlock(url=SecretStr("postgresql://user:secret@host:word@host/db")))
    assert "secret" not in str(caught.value)
