"""What `lockstep env` prints: a shell reads back exactly what was meant, and our own commands are not misled by it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

import deployments.state
from deployments.endpoints import resolve
from deployments.environment import enter, load, prefect_environment
from deployments.exports import exports, lines
from deployments.state import Record, State

URLS = {"s3": "http://127.0.0.1:1001", "milvus": "http://127.0.0.1:1002", "prefect": "http://127.0.0.1:1003/api"}
SET = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BUCKET", "MILVUS_URI", "LEDGER_URL")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*SET, "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "AWS_REGION", "PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCKSTEP_HOME", str(tmp_path / "home of 'mine'"))
    home = tmp_path / "home of 'mine'"
    home.mkdir()
    state = State(records={name: Record(name=name, url=url) for name, url in URLS.items()}).keyed()
    deployments.state.save(home, state)
    return home


def test_a_shell_reads_back_what_was_meant(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = deployments.state.load(home)
    env = load()
    found = exports(env, resolve(env, state))
    nasty = {**found, "MILVUS_TOKEN": "root:$(touch x) `id` '\"\\ \n!"}
    monkeypatch.setenv("PREFECT_API_KEY", "of another server")
    script = lines(nasty) + 'python3 -c "import json, os; print(json.dumps(dict(os.environ)))"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, cwd=home)
    assert {name: value for name, value in json.loads(done.stdout).items() if name in nasty} == nasty
    assert "PREFECT_API_KEY" not in json.loads(done.stdout)
    assert found["COLLECTION_NAME"] == env.collection_name
    assert not (home / "x").exists()
    assert found["AWS_SECRET_ACCESS_KEY"] == state.secret_key
    assert found["PREFECT_API_AUTH_STRING"] == state.prefect_auth
    assert found["LEDGER_URL"] == f"sqlite:///{home / 'ledger.db'}"
    assert {found[name] for name in ("AWS_ENDPOINT_URL", "MILVUS_URI", "PREFECT_API_URL")} == set(URLS.values())


def test_a_shell_that_has_them_leaves_the_stack_ours(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise `up` would start nothing and blame three parts of others."""
    state = deployments.state.load(home)
    before = load()
    here = resolve(before, state)
    for name, value in exports(before, here).items():
        monkeypatch.setenv(name, value)
    after = load()
    assert (after.aws_endpoint_url, after.milvus_uri, after.prefect_api_url) == (None, None, None)
    assert resolve(after, state) == here
    moved = state.keeping(Record(name="milvus", url="http://127.0.0.1:2002"))
    deployments.state.save(home, moved)
    assert load().milvus_uri == URLS["milvus"], "another address is another Milvus"


def test_the_password_of_an_external_prefect_stays_the_persons(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "theirs:1")
    monkeypatch.setenv("PREFECT_API_KEY", "key")
    state = deployments.state.load(home)
    ours = prefect_environment(load(), state)
    assert (ours["PREFECT_API_AUTH_STRING"], ours["PREFECT_API_KEY"]) == (state.prefect_auth, "")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    env = load()
    theirs = prefect_environment(env, state)
    assert (theirs["PREFECT_API_AUTH_STRING"], theirs["PREFECT_API_KEY"]) == ("theirs:1", "key")
    assert resolve(env, state).prefect_open_url == "https://prefect.example"


def test_empty_credentials_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("PREFECT_API_KEY", "theirs")
    monkeypatch.setenv("PREFIX", "old")
    enter({"PREFECT_API_KEY": "", "PREFIX": ""})
    assert "PREFECT_API_KEY" not in os.environ
    assert os.environ["PREFIX"] == ""


def test_secrets_never_show(home: Path) -> None:
    state = deployments.state.load(home)
    here = resolve(load(), state)
    assert state.prefect_auth not in repr(state)
    assert here.prefect_auth_string == SecretStr(state.prefect_auth)
    password = state.prefect_auth.partition(":")[2]
    assert len(password) >= 32
    assert password != State().keyed().prefect_auth.partition(":")[2]
    assert state.keyed() == state, "made up once"
    assert state.model_copy(update={"prefect_auth": ""}).keyed().secret_key == state.secret_key
