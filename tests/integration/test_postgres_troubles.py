"""What a real PostgreSQL does to its clients: it restarts, falls silent, waits for a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from tasks.errors import PartError, TransientError
from tasks.indexing.audit import LISTED as AUDITED
from tasks.indexing.audit import _insert, _tables
from tasks.indexing.plan import make_plan
from tasks.ledger import lease
from tasks.ledger.database import Database
from tasks.ledger.missing_keys import missing_keys
from tasks.ledger.objects import count_objects
from tasks.models import ObjectRef
from tests.support.proxy import Proxy

ON = "docs_g0001"


def ref(key: str) -> ObjectRef:
    return ObjectRef(key, "e1", 10, 1_700_000_000_000)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Database]:
    ledger = Database(LedgerBlock(url=SecretStr(postgres_url), timeout_seconds=2))
    yield ledger
    ledger.engine.dispose()


def restart(ledger: Database, postgres_url: str) -> None:
    """Do to the ledger's connections what a restart or a failover does."""
    ours = sa.text("select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name")
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(ours, {"name": ledger.name_of_test})  # type: ignore[attr-defined]
    engine.dispose()


@pytest.fixture
def named(postgres_url: str) -> Iterator[Database]:
    """A ledger whose connections can be told from those of other tests."""
    name = f"lockstep-{time.monotonic_ns()}"
    url = sa.make_url(postgres_url).update_query_dict({"application_name": name})
    ledger = Database(LedgerBlock(url=SecretStr(url.render_as_string(hide_password=False)), timeout_seconds=5))
    ledger.name_of_test = name  # type: ignore[attr-defined]
    yield ledger
    ledger.engine.dispose()


def test_a_restart_while_the_bucket_is_listed_is_worth_another_try(named: Database, postgres_url: str) -> None:
    def listing(breaks: bool) -> Iterator[list[ObjectRef]]:
        yield [ref("a"), ref("b")]
        if breaks:
            restart(named, postgres_url)
        yield [ref("c")]

    with pytest.raises(TransientError, match="does not answer"):
        make_plan(listing(True), named, ON, "run")
    assert make_plan(listing(False), named, ON, "run").new == 3


def test_a_restart_during_an_audit_is_worth_another_try(named: Database, postgres_url: str) -> None:
    def audit(breaks: bool) -> None:
        with _tables(named) as connection:
            if breaks:
                restart(named, postgres_url)
            _insert(connection, sa.insert(AUDITED), [{"key": "a", "etag": "e"}])

    with pytest.raises(TransientError, match="does not answer"):
        audit(True)
    audit(False)


def test_a_listing_that_breaks_off_leaves_no_table_behind(ledger: Database) -> None:
    for _ in range(3):
        with suppress(ZeroDivisionError), missing_keys(ledger, ON) as missing:
            missing.pass_page([ref("a")])
            raise ZeroDivisionError
    with missing_keys(ledger, ON) as missing:
        missing.pass_page([ref("a")])


def test_a_server_that_falls_silent_is_not_waited_for(postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    proxy = Proxy(f"http://{url.host}:{url.port or 5432}")
    through = url.set(host="127.0.0.1", port=Proxy.address(proxy.url)[1]).render_as_string(hide_password=False)
    ledger = Database(LedgerBlock(url=SecretStr(through), timeout_seconds=2))
    ended: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(TransientError, match="does not answer"):
            count_objects(ledger, ON)
        ended.append(time.monotonic() - began)

    assert count_objects(ledger, ON) == {
        "chunks": 0
    }  # over a connection that is kept: a new one has a limit of its own
    proxy.swallow()  # acknowledged by the system, read by nobody
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(40)
    assert ended
    assert ended[0] < 30
    proxy.make("none")
    assert count_objects(ledger, ON) == {"chunks": 0}
    ledger.engine.dispose()
    proxy.close()


def test_a_writer_whose_ledger_is_silent_ends_all_the_same(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY_SECONDS", 0.1)
    url = sa.make_url(postgres_url)
    proxy = Proxy(f"http://{url.host}:{url.port or 5432}")
    through = url.set(host="127.0.0.1", port=Proxy.address(proxy.url)[1]).render_as_string(hide_password=False)
    ledger = Database(LedgerBlock(url=SecretStr(through), timeout_seconds=2))

    def write() -> None:
        with lease.writing(ledger, ON, "one that is left alone", 0, print):
            proxy.swallow()
            time.sleep(0.5)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    proxy.close()


def test_a_lock_that_is_never_given_back_is_not_waited_for(ledger: Database, postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as other:
        other.execute(sa.text("lock table lockstep_objects in access exclusive mode"))
        with pytest.raises(TransientError, match="does not answer"):
            count_objects(ledger, ON)
    engine.dispose()
    assert count_objects(ledger, ON) == {"chunks": 0}


def test_the_server_ends_what_a_machine_without_power_leaves_open(ledger: Database) -> None:
    """A transaction that nobody goes on with would hold its locks until TCP notices, after two hours."""

    def idle() -> None:
        with ledger.connected() as connection:
            connection.execute(sa.text("select 1"))
            time.sleep(2 * 2 + 1)
            connection.execute(sa.text("select 1"))

    with pytest.raises(TransientError):
        idle()


def test_what_the_url_says_of_limits_holds(postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    options = f"{url.query['options']} -cstatement_timeout=12345"
    given = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    ledger = Database(LedgerBlock(url=SecretStr(given), timeout_seconds=2))
    with ledger.transaction() as connection:
        assert connection.execute(sa.text("show statement_timeout")).scalar() == "12345ms"
        assert connection.execute(sa.text("show idle_in_transaction_session_timeout")).scalar() == "4s"
    ledger.engine.dispose()


def test_a_server_that_has_become_a_standby_is_asked_again(ledger: Database) -> None:
    def do(*statements: str) -> None:
        with ledger.transaction() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    with pytest.raises(TransientError):
        do("set transaction read only", "delete from lockstep_objects")
    with pytest.raises(PartError, match="refused a statement"):
        do("select nonsense")
