"""What `lockstep up` does to a home that an older Lockstep, or a person, has put things in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.environment import Environment
from deployments.local import stack
from deployments.state import Record, State, load

OURS = (
    "state.json", "state.x1.tmp", "lock", "registered.json", "registered.lock", "ledger.db", "ledger.db-wal", "logs",
    "prefect", "milvus", "s3", "rclone", "samples",
)  # fmt: skip
THEIRS = ("prefect.yaml", "lockstep", "lockfile", "s3-backup", "logs.tar", "milvus-notes.md", "samples.csv", "notes")


def test_what_is_a_persons_own_in_a_shared_home_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in (*OURS, *THEIRS):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    stack._make_private(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077} == set(THEIRS)


@pytest.fixture
def unguarded() -> Iterator[State]:
    """A server and a worker that were started when there were no passwords yet."""
    sleeps = [sys.executable, "-c", "import time; time.sleep(300)"]
    started = {name: psutil.Popen(sleeps, stdout=subprocess.DEVNULL) for name in ("prefect", "worker")}
    records = {
        name: Record(name=name, url="http://127.0.0.1:1/api", pid=one.pid, create_time=one.create_time())
        for name, one in started.items()
    }
    yield State(records=records)
    for one in started.values():
        if one.is_running():
            one.kill()
        one.wait(30)


def alive(state: State) -> set[str]:
    return {name for name, record in state.records.items() if stack.processes.running(record)}


def test_a_prefect_without_a_password_is_stopped_to_get_one(unguarded: State, tmp_path: Path) -> None:
    said: list[str] = []
    stack._stop_unguarded(Environment(home=tmp_path), unguarded, said.append)
    assert alive(unguarded) == set()
    assert said == ["prefect: it runs without a password; restarting it with one"]


def test_a_prefect_that_is_configured_elsewhere_is_no_reason_to_stop_anything(unguarded: State, tmp_path: Path) -> None:
    env = Environment(home=tmp_path, prefect_api_url="http://prefect.example/api")
    stack._stop_unguarded(env, unguarded, pytest.fail)
    assert alive(unguarded) == {"prefect", "worker"}


def test_up_asks_for_it_only_while_there_is_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(stack, "_stop_unguarded", lambda *_: asked.append(True))
    monkeypatch.setattr(stack, "WAVES", ())
    monkeypatch.setattr(stack, "USED", ())
    for _ in range(2):
        stack.up(Environment(home=tmp_path), pytest.fail)
    assert asked == [True]
    assert load(tmp_path).prefect_auth
