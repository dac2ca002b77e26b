"""A person's yes on the command line comes to the flow, and nowhere without it."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocks.settings import Settings
from deployments.cli.main import main
from flows.audit import audit
from flows.promote import promote
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.errors import LockstepError

FLOWS = {"sync": sync, "audit": audit, "rebuild": rebuild, "promote": promote, "rollback": rollback}
OPTIONS = {"--allow-deletions": "allow_deletions", "--accept-source": "accept_source"}


@pytest.mark.parametrize("given", [(), *((option,) for option in OPTIONS), tuple(OPTIONS)], ids=" ".join)
@pytest.mark.parametrize("name", FLOWS)
def test_it_is_what_the_flow_is_asked_with(
    name: str, given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def run(*values: Any, **named: Any) -> None:
        bound = inspect.signature(FLOWS[name].fn).bind(*values, **named)
        bound.apply_defaults()
        asked.append(bound.arguments)
        raise LockstepError("seen enough")

    opened = SimpleNamespace(pipeline="docs", env=None, before=None, here=SimpleNamespace(prefect_ui_url=""))
    monkeypatch.setenv("LOCKSTEP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deployments.cli.session.open_session", lambda *_, **_also: opened)
    monkeypatch.setattr("tasks.pipelines.load_pipeline", lambda _name: SimpleNamespace(settings=Settings()))
    monkeypatch.setattr(f"flows.{name}.{name}", run)
    monkeypatch.setattr("sys.argv", ["lockstep", name, *given])
    with pytest.raises(SystemExit):
        main()
    assert [{option for option, field in OPTIONS.items() if one[field]} for one in asked] == [set(given)]
