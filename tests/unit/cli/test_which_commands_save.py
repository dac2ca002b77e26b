"""Of all commands, only those that write an index save the pipeline that the environment describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from deployments.cli.main import app, main
from tasks.errors import LockstepError

ARGUMENTS = {
    "search": ["pumps"], "ask": ["Which pump?"], "quarantine retry": ["--all"], "keys create": ["me"],
    "keys revoke": ["0a1b2c3d"],
}  # fmt: skip
SAVE = {"sync", "rebuild"}
OPEN_NONE = {
    "down", "status", "env", "serve", "watch", "mcp", "keys", "automations", "automations apply", "automations list",
}  # fmt: skip
"""`keys` and `automations` alone print their help. The automations need no part but Prefect."""
UP = {"up"}
"""It saves: that is what it is for."""


def commands() -> list[str]:
    """Return the words of every command that there is."""
    found: list[str] = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found += [name, *(f"{name} {inner}" for inner in getattr(command, "commands", ()))]
    return found


@pytest.mark.parametrize("name", sorted(set(commands()) - OPEN_NONE - UP))
def test_only_what_writes_an_index_saves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mistyped PREFIX before it, a search would otherwise have the worker empty the index."""
    asked: list[bool] = []

    def opened(*_: Any, saves: bool = False, **_also: Any) -> None:
        asked.append(saves)
        raise LockstepError("seen enough")

    monkeypatch.setenv("LOCKSTEP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deployments.cli.session.open_session", opened)
    monkeypatch.setattr("sys.argv", ["lockstep", *name.split(), *ARGUMENTS.get(name, [])])
    with pytest.raises(SystemExit):
        main()
    assert asked == [name in SAVE]
