"""How the parts of the local stack are started: who may command them, and whose what they write is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.cli.main import main_with
from deployments.environment import Environment
from deployments.local import processes
from deployments.local.parts import PREFECT, SERVICE, WORKER
from deployments.server.run import DRAIN_SECONDS
from deployments.state import Record, State

URL = "http://127.0.0.1:4242/api"


@pytest.fixture
def usual_mask() -> Iterator[None]:
    """What people's shells have: what is written may be read by all."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_embedded_prefect_wants_a_password_that_the_worker_has(tmp_path: Path) -> None:
    state = State(records={"prefect": Record(name="prefect", url=URL)}).keyed()
    env = Environment(home=tmp_path)
    server, worker = PREFECT.command(env, state, 4242), WORKER.command(env, state, 0)
    assert len(state.prefect_auth) > 30
    assert server.variables["PREFECT_SERVER_API_AUTH_STRING"] == state.prefect_auth
    assert server.variables["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4242"
    assert worker.variables["PREFECT_API_AUTH_STRING"] == state.prefect_auth
    assert worker.variables["PREFECT_API_URL"] == URL
    assert "deployments.local.prefect_server" in server.argv, "behind its gate"
    assert not [word for word in (*server.argv, *worker.argv) if state.prefect_auth in word], "all may read it there"


def test_leases_outlive_the_embedded_prefect(tmp_path: Path) -> None:
    """Prefect keeps them in memory unless it is told, and ends a run whose lease is gone."""
    variables = PREFECT.command(Environment(home=tmp_path), State().keyed(), 4242).variables
    script = "from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage as get\nprint(get())"
    env = {**os.environ, **variables, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "lease_storage.filesystem." in done.stdout


def test_the_embedded_prefect_remembers_runs_that_died_with_it(tmp_path: Path) -> None:
    """Prefect forgets after 60 s that it waits for a heartbeat. Its settings know no number of seconds."""
    variables = PREFECT.command(Environment(home=tmp_path), State().keyed(), 4242).variables
    script = (
        "from prefect.settings import get_current_settings\n"
        "print(get_current_settings().server.events.expired_bucket_buffer.days)"
    )
    env = {**os.environ, **variables, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "7"


def test_what_a_part_writes_is_its_owners_alone(tmp_path: Path, usual_mask: None) -> None:
    script = "import pathlib; pathlib.Path('written').touch(); pathlib.Path('folder').mkdir()"
    assert processes.spawn([sys.executable, "-c", script], {}, tmp_path, tmp_path / "log").wait(60) == 0
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_what_a_command_writes_is_its_owners_alone(tmp_path: Path, usual_mask: None) -> None:
    main_with((tmp_path / "written").touch)
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == 0o600


def test_a_part_gets_its_time_to_stop(tmp_path: Path) -> None:
    ending = tmp_path / "ended"
    code = (
        "import signal, sys, time, pathlib\n"
        f"def end(*_): time.sleep(1); pathlib.Path({str(ending)!r}).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print(flush=True); time.sleep(60)"
    )
    for seconds, ended in ((0.2, False), (20.0, True)):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            processes.stop([psutil.Process(child.pid)], [], seconds)
        assert ending.exists() is ended


def test_the_service_has_time_to_end_its_answers() -> None:
    assert SERVICE.stop_seconds > DRAIN_SECONDS
