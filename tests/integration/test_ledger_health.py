"""What `lockstep status` learns from the ledger, without the ledger's own code: on SQLite and on PostgreSQL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.ledger import Ledger
from deployments.endpoints import Endpoints, resolve
from deployments.environment import Environment
from deployments.local import ledger_health
from deployments.state import State
from tasks.errors import PartError
from tasks.ledger.canary import Canary, begin_canary, end_canary, next_step
from tasks.ledger.database import Database, now
from tests.support.servers import free_port


def endpoints(url: str) -> Endpoints:
    return resolve(Environment(ledger_url=SecretStr(url)), State())


def test_a_canary_is_told_with_its_step_and_its_end(ledger_url: str) -> None:
    here = endpoints(ledger_url)
    assert ledger_health.canary(here, "docs") is None, "there are no tables yet"
    with Database(Ledger(url=SecretStr(ledger_url))) as ledger:
        assert ledger_health.check_ledger(here, State()) == ""
        assert ledger_health.canary(here, "docs") is None
        begin_canary(ledger, Canary("docs", "docs_g0002", "docs_g0001", (10, 50, 100), 0, 60.0, now()))
        told = ledger_health.canary(here, "docs")
        assert told
        assert told["until"] == told["since"] + 60_000
        assert {name: told[name] for name in ("collection", "live", "steps", "share", "step")} == {
            "collection": "docs_g0002", "live": "docs_g0001", "steps": [10, 50, 100], "share": 10, "step": 1,
        }  # fmt: skip
        assert ledger_health.canary(here, "others") is None
        next_step(ledger, "docs", 1)
        moved = ledger_health.canary(here, "docs")
        assert moved
        assert (moved["share"], moved["step"]) == (50, 2)
        end_canary(ledger, "docs")
        assert ledger_health.canary(here, "docs") is None


def test_a_file_that_is_not_there_yet_is_well_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert ledger_health.check_ledger(endpoints(f"sqlite:///{path}"), State()) == "created on first use"
    assert ledger_health.canary(endpoints(f"sqlite:///{path}"), "docs") is None
    assert not path.exists()


def test_a_ledger_that_does_not_answer_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)
    away = f"postgresql+psycopg://lockstep:secret@127.0.0.1:{free_port()}/lockstep"
    for url in (f"sqlite:///{tmp_path / 'ledger.db'}", away):
        with pytest.raises(PartError) as told:
            ledger_health.canary(endpoints(url), "docs") or ledger_health.check_ledger(endpoints(url), State())
        assert "secret" not in str(told.value)
        assert "\n" not in str(told.value)


def test_a_file_is_asked_without_sqlalchemy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Database(Ledger(url=SecretStr(url))).close()
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert ledger_health.check_ledger(endpoints(url), State()) == ""
