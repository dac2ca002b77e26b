"""No library tells anybody that it works, whoever started the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import socket, sys, time
from pathlib import Path

def refuse(*where, **_):
    tried.append(str(where[:2]))
    raise OSError("no network")

tried = []
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
if sys.argv[2] == "child":
    import tasks.documents.without_torch
from tasks.documents.parse import parse
assert parse(Path(sys.argv[1]), "a.html")
time.sleep(1)  # what is told is told in a thread
print(tried)
"""
SILENT = ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "CI")


def connections(tmp_path: Path, how: str) -> str:
    page = tmp_path / "a.html"
    page.write_text("<p>Hello, this is text about a pump.</p>")
    env = {name: value for name, value in os.environ.items() if name not in SILENT}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(page), how], env=env, capture_output=True, text=True,
                          check=True, timeout=120)  # fmt: skip
    return done.stdout.strip()


def test_a_process_that_parses_tries_no_connection(tmp_path: Path) -> None:
    assert connections(tmp_path, "plain") == "[]"
    assert connections(tmp_path, "child") == "[]"
