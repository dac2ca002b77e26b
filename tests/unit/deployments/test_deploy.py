"""What a home remembers of what was registered."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployments import deploy
from deployments.environment import Environment

AT_ONCE, EACH = 6, 12


def test_commands_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    """The lock belongs to the open file: it holds between threads as it does between processes."""
    env, together = Environment(home=tmp_path), threading.Barrier(AT_ONCE)

    def remember(who: int) -> None:
        together.wait(60)
        for n in range(EACH):
            deploy._remember(env, f"{who} {n}", "mark")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(remember, range(AT_ONCE)))
    kept = json.loads((tmp_path / "registered.json").read_text())
    assert kept == {f"{who} {n}": "mark" for who in range(AT_ONCE) for n in range(EACH)}
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".lock")], "nothing is left behind"
