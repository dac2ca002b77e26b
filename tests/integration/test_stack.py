"""The local stack with real servers. One stack is shared; tests that break it mend it with `up`."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import pytest

from blocks.milvus_store import MilvusStore
from deployments import state
from deployments.endpoints import resolve
from deployments.environment import Environment, load
from deployments.local import processes, stack
from deployments.local.parts import WORKER_MARK
from deployments.state import Record, State
from tasks.errors import MisuseError, PartError

OURS = (
    "AWS_",
    "BUCKET",
    "PREFIX",
    "MILVUS_",
    "COLLECTION",
    "VLLM_",
    "LLM_",
    "LEDGER_",
    "PREFECT_",
    "LOCKSTEP_",
)
PARTS = {"s3", "milvus", "prefect", "worker", "service", "watcher"}


def environment(home: Path, **variables: str) -> Environment:
    """Load the environment of a person who has set ``variables`` and nothing else of ours."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        for name, value in {"LOCKSTEP_HOME": str(home), **variables}.items():
            patch.setenv(name, value)
        return load()


def silent(_line: str) -> None:
    """Report to nobody."""


def pids(env: Environment) -> dict[str, int | None]:
    return {row.name: row.pid for row in stack.status(env) if row.name in PARTS}


def kill(env: Environment, name: str) -> None:
    process = processes.running(state.load(env.home).records[name])
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(10)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A person's empty home folder, in which nothing may appear."""
    folder = tmp_path_factory.mktemp("person")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.delenv("XDG_CONFIG_HOME", raising=False)
        yield folder


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, person: Path, lines: list[str]) -> Iterator[Environment]:
    assert person.is_dir()
    env = environment(tmp_path_factory.mktemp("lockstep") / "home")
    try:
        stack.up(env, lines.append)
        yield env
    finally:
        stack.down(env, silent)


@pytest.fixture
def other(env: Environment, tmp_path: Path) -> Iterator[Environment]:
    """A second home: its Milvus and its Prefect are those of the shared stack, configured."""
    here = stack.endpoints(env)
    assert here.prefect_auth_string
    other = environment(
        tmp_path / "other",
        MILVUS_URI=here.milvus_uri,
        PREFECT_API_URL=here.prefect_api_url,
        PREFECT_API_AUTH_STRING=here.prefect_auth_string.get_secret_value(),
    )
    other.home.mkdir()
    try:
        yield other
    finally:
        stack.down(other, silent)


def test_up_starts_all_parts(env: Environment, lines: list[str]) -> None:
    rows = {row.name: row for row in stack.status(env)}
    assert {name for name, row in rows.items() if row.state == "up"} == PARTS | {"ledger"}
    assert rows["vllm"].state == "not configured"
    assert all((rows[name].log or Path()).is_file() for name in PARTS)
    for name in PARTS:
        at = "s3://" if name == "watcher" else "http://127.0.0.1:"
        assert any(line.startswith(f"{name}: up at {at}") for line in lines)


def test_the_endpoints_work(env: Environment) -> None:
    here = stack.endpoints(env)
    assert here.s3_secret_key is not None
    client = boto3.client(
        "s3",
        endpoint_url=here.s3_endpoint,
        aws_access_key_id=here.s3_access_key,
        aws_secret_access_key=here.s3_secret_key.get_secret_value(),
        region_name=here.s3_region,
    )
    client.put_object(Bucket=here.bucket, Key="hello.txt", Body=b"hello")
    # An object is a file at once, and a file put into the folder is an object.
    assert (env.home / "s3" / here.bucket / "hello.txt").read_bytes() == b"hello"
    client = MilvusStore(uri=here.milvus_uri).get_client()
    assert client.list_collections() == []
    client.close()


def test_secrets_stay_with_their_owner(env: Environment) -> None:
    path = env.home / "state.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = state.load(env.home).secret_key
    assert secret
    for pid in filter(None, pids(env).values()):
        assert secret not in " ".join(psutil.Process(pid).cmdline())


def test_up_again_starts_nothing(env: Environment) -> None:
    before, lines = pids(env), list[str]()
    again = stack.up(env, lines.append)
    assert pids(env) == before
    assert not [line for line in lines if "started" in line]
    assert {part.name for part in again.parts if part.state == "up"} >= PARTS


def test_up_restarts_just_what_was_killed(env: Environment) -> None:
    before = pids(env)
    kill(env, "milvus")
    assert {row.name: row.state for row in stack.status(env)}["milvus"] == "down"
    with pytest.raises(PartError, match="not running: milvus"):
        stack.endpoints(env)
    stack.up(env, silent)
    after = pids(env)
    assert {name for name in PARTS if after[name] != before[name]} == {"milvus"}


def test_two_ups_at_once_start_one_process(env: Environment) -> None:
    kill(env, "s3")
    gate, lines = threading.Barrier(2), list[str]()

    def raise_it() -> None:
        gate.wait()
        stack.up(env, lines.append)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(raise_it) for _ in range(2)]:
            future.result()
    assert len([line for line in lines if line.startswith("s3: ") and "started" in line]) == 1
    assert any("waiting for it" in line for line in lines)


def test_the_worker_survives_a_restart_of_prefect(env: Environment) -> None:
    url = stack.endpoints(env).prefect_api_url
    kill(env, "prefect")
    stack.up(env, silent)
    rows = {row.name: row for row in stack.status(env)}
    assert (rows["prefect"].state, rows["prefect"].url) == ("up", url)
    assert rows["worker"].state == "up"


def test_a_part_that_hangs_is_started_again(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("deployments.local.health.SECONDS", 0.5)
    monkeypatch.setattr(processes, "STOP_SECONDS", 1.0)
    before, lines = pids(env), list[str]()
    os.kill(before["s3"] or 0, signal.SIGSTOP)
    stack.up(env, lines.append)
    assert "s3: runs but does not answer; restarting it" in lines
    assert not psutil.pid_exists(before["s3"] or 0)


def test_configured_parts_are_used_and_a_taken_port_is_left(other: Environment, env: Environment) -> None:
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        state.save(other.home, State().keyed().keeping(Record(name="s3", url="http://old", port=taken)))
        stack.up(other, lines.append)
    assert set(state.load(other.home).records) == {"s3", "worker", "service", "watcher"}
    assert any(f"s3: port {taken} is taken by another program" in line for line in lines)
    assert all(row.state == "up" for row in stack.status(other) if row.name in PARTS)
    # Flow runs that outlive a killed worker are still ours to stop, whoever their parent is now.
    run = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={WORKER_MARK: resolve(other, State()).worker_name},
        start_new_session=True,
    )
    before = pids(env)
    stack.down(other, silent)
    run.wait(1)
    assert pids(env) == before


def test_a_configured_part_that_is_not_well_is_named(other: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PATIENCE_SECONDS", 0.5)
    lost = other.model_copy(update={"milvus_uri": "http://127.0.0.1:9"})
    with pytest.raises(stack.StartError) as caught:
        stack.up(lost, silent)
    assert "milvus at http://127.0.0.1:9 does not work" in str(caught.value)
    assert "unset MILVUS_URI" in str(caught.value)


def test_a_failure_names_the_part_its_log_and_its_last_lines(other: Environment) -> None:
    broken = other.model_copy(update={"milvus_uri": None})
    (broken.home / "milvus").write_text("a file where a folder should be")
    with pytest.raises(stack.StartError) as caught:
        stack.up(broken, silent)
    message, log = str(caught.value), broken.home / "logs" / "milvus.log"
    assert "milvus ended before it answered" in message
    assert str(log) in message
    assert log.read_text().splitlines()[-1] in message
    assert {row.name: row.state for row in stack.status(broken)}["s3"] == "up"


def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    env = environment(tmp_path)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        record = Record(name="s3", url="http://127.0.0.1:9", port=9, pid=stranger.pid, create_time=1.0)
        state.save(env.home, State().keeping(record))
        assert {row.name: row.state for row in stack.status(env)}["s3"] == "down"
        lines: list[str] = []
        stack.down(env, lines.append)
        assert lines == ["s3: was not running"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_nothing_is_looked_for_before_the_first_up(tmp_path: Path) -> None:
    env = environment(tmp_path / "never")
    stack.down(env, silent)
    with pytest.raises(MisuseError, match=r"the local stack is not running\. Run `lockstep up` first"):
        stack.endpoints(env)
    assert not env.home.exists()


def test_an_unreadable_state_is_explained(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(MisuseError, match=r"state\.json cannot be read"):
        stack.status(environment(tmp_path))


def test_down_stops_all_and_leaves_nothing(env: Environment, person: Path) -> None:
    mine = [psutil.Process(pid) for pid in pids(env).values() if pid]
    mine += [child for process in list(mine) for child in process.children(recursive=True)]
    assert len(mine) >= len(PARTS)
    stack.down(env, silent)
    assert not [process for process in mine if process.is_running()]
    assert {row.state for row in stack.status(env) if row.name in PARTS} == {"down"}
    stack.down(env, silent)
    assert list(person.iterdir()) == []
