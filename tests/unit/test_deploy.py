"""What a home remembers of what was registered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import sys, time
from deployments import deploy
from deployments.environment import load
env = load()
while time.time() < float(sys.argv[2]): pass
for n in range(12):
    deploy._remember(env, f"{sys.argv[1]} {n}", "mark")
"""


def test_processes_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    env = {"LOCKSTEP_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "person")}
    at = str(time.time() + 15)  # all at once, when all have loaded what they need
    started = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(n), at], env=env) for n in range(3)]
    assert [process.wait(120) for process in started] == [0] * 3
    kept = json.loads((tmp_path / "registered.json").read_text())
    assert kept == {f"{n} {m}": "mark" for n in range(3) for m in range(12)}
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"registered.json", "registered.lock"}
