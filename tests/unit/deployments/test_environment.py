from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from blocks.settings import Settings
from deployments.environment import Environment, inherit, load, prefect_environment, service_environment
from deployments.register import settings_of
from deployments.state import Record, State
from tasks.errors import MisuseError

KEPT = ("PATH", "HOME", "LANG")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in set(os.environ) - {*KEPT}:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def misuse() -> str:
    with pytest.raises(MisuseError) as caught:
        load()
    return str(caught.value)


def test_nothing_set(tmp_path: Path) -> None:
    env = load()
    assert env.home == tmp_path / ".lockstep"
    assert (env.bucket, env.prefix, env.collection_name) == ("documents", "", "docs")
    assert (env.aws_endpoint_url, env.milvus_uri, env.prefect_api_url, env.vllm_base_url) == (None,) * 4
    assert env.settings_overrides == {}


def test_only_on_a_wholly_local_stack_a_chat_model_that_fails_is_stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().fallback == "none"
    assert settings_of(load()).fallback == "extractive"
    monkeypatch.setenv("LOCKSTEP_FALLBACK", "none")
    assert settings_of(load()).fallback == "none"
    monkeypatch.delenv("LOCKSTEP_FALLBACK")
    monkeypatch.setenv("MILVUS_URI", "http://milvus:19530")
    assert settings_of(load()).fallback == "none"


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().bucket = "other"  # type: ignore[misc]


def test_the_real_environment_wins_over_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BUCKET=from-file\nPREFIX=manuals/\nLOCKSTEP_TOP_K=3\nUNRELATED=1\n")
    monkeypatch.setenv("BUCKET", "from-environment")
    env = load()
    assert (env.bucket, env.prefix, env.settings_overrides) == ("from-environment", "manuals/", {"top_k": 3})


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "")
    monkeypatch.setenv("MILVUS_URI", "")
    assert (load().bucket, load().milvus_uri) == ("documents", None)


def test_a_bucket_of_your_own_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example")
    assert "BUCKET is not" in misuse()
    monkeypatch.setenv("BUCKET", "papers")
    assert load().bucket == "papers"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MILVUS_URL", "MILVUS_URI"),
        ("LEDGER_URI", "LEDGER_URL"),
        ("BUCKETS", "BUCKET"),
        ("BUKET", "BUCKET"),
        ("PREFX", "PREFIX"),
        ("VLLM_BASEURL", "VLLM_BASE_URL"),
        ("EMBED_MODELNAME", "EMBED_MODEL_NAME"),
        ("LOCKSTEP_TOPK", "LOCKSTEP_TOP_K"),
        ("LOCKSTEP_CHUNK_TOKEN", "LOCKSTEP_CHUNK_TOKENS"),
        ("LOCKSTEP_HOMEE", "LOCKSTEP_HOME"),
    ],
)
def test_a_misspelt_name_is_refused(monkeypatch: pytest.MonkeyPatch, written: str, meant: str) -> None:
    monkeypatch.setenv(written, "x")
    assert misuse() == f"{written} is not a setting; did you mean {meant}?"


def test_all_misspelt_names_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUKET", "x")
    monkeypatch.setenv("LOCKSTEP_TOPK", "3")
    assert len(misuse().splitlines()) == 2


def test_a_misspelt_name_in_dotenv_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MILVUS_URL=http://milvus:19530\n")
    assert "did you mean MILVUS_URI?" in misuse()


def test_an_unknown_name_of_ours_is_refused_with_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_ZZZ", "1")
    assert "LOCKSTEP_ZZZ is not a setting" in misuse()
    assert "TOP_K" in misuse()


@pytest.mark.parametrize(
    "name",
    ["VLLM_CPU_KVCACHE_SPACE", "AWS_ENDPOINT_URLS", "AWS_PROFILE", "PREFECT_API_URLL", "MILVUS_LOG_LEVEL"],
)
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "minio:9000"),
        ("BUCKET", "../elsewhere"),
        ("PREFIX", "/manuals"),
        ("MILVUS_URI", "./milvus.db"),
        ("COLLECTION_NAME", "9docs"),
        ("COLLECTION_NAME", "a" * 202),
        ("VLLM_BASE_URL", "localhost"),
        ("PREFECT_API_URL", "4200"),
        ("LOCKSTEP_TOP_K", "0"),
        ("LOCKSTEP_TOP_K", "many"),
        ("LOCKSTEP_MODE", "magic"),
    ],
)
def test_an_invalid_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert misuse().startswith(f"{name} is {value!r}")


def test_a_secret_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", "hunter2")
    message = misuse()
    assert message.startswith("LEDGER_URL ")
    assert "hunter2" not in message
    monkeypatch.setenv("LEDGER_URL", "postgresql://me:hunter2@db/ledger")
    monkeypatch.setenv("MILVUS_TOKEN", "hunter2")
    assert "hunter2" not in repr(load())


def test_prefect_keeps_to_the_home_folder(tmp_path: Path) -> None:
    variables = prefect_environment(load(), State())
    home = str(tmp_path / ".lockstep")
    assert variables["LOCKSTEP_HOME"] == home
    assert variables["PREFECT_HOME"].startswith(home)
    assert variables["PREFECT_PROFILES_PATH"].startswith(home)
    assert variables["DO_NOT_TRACK"] == "1"
    assert variables["BUCKET"] == "documents"
    assert "PREFECT_API_URL" not in variables


def test_prefect_runs_against_the_embedded_server() -> None:
    state = State(records={"prefect": Record(name="prefect", url="http://127.0.0.1:4242/api")})
    assert prefect_environment(load(), state)["PREFECT_API_URL"] == "http://127.0.0.1:4242/api"


def test_a_prefect_of_your_own_is_used_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api/")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:hunter2")
    state = State(records={"prefect": Record(name="prefect", url="http://127.0.0.1:4242/api")})
    variables = prefect_environment(load(), state)
    assert variables["PREFECT_API_URL"] == "https://prefect.example/api"
    assert variables["PREFECT_API_AUTH_STRING"] == "me:hunter2"


def test_child_processes_reach_this_machine_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    assert prefect_environment(load(), State())["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"


def test_child_processes_inherit_all_but_the_flags_of_rclone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    monkeypatch.setenv("HF_HOME", "/models")
    variables = inherit({"HF_HOME": "/other"})
    assert variables["HF_HOME"] == "/other"
    assert "RCLONE_DRY_RUN" not in variables


def test_every_field_says_what_it_must_be() -> None:
    assert all(field.description for field in Environment.model_fields.values())


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_a_relative_ledger_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """The worker runs in another folder than the command."""
    monkeypatch.setenv("LEDGER_URL", f"{driver}:///data/ledger.db?timeout=5")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    url = load().ledger_url
    assert url is not None
    assert url.get_secret_value() == f"{driver}:///{tmp_path}/data/ledger.db?timeout=5"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with create_engine(url.get_secret_value()).connect() as connection:
        connection.exec_driver_sql("create table t (x int)")
    assert (tmp_path / "data" / "ledger.db").exists()


@pytest.mark.parametrize("url", [
    "sqlite://", "sqlite:///:memory:", "sqlite+pysqlite://", "sqlite:///file::memory:?uri=true",
    "sqlite:///file:/l?mode=memory&uri=true", "sqlite:///file:ledger.db?uri=true",
])  # fmt: skip
def test_a_ledger_that_is_another_one_in_each_process_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", url)
    with pytest.raises(MisuseError, match="LEDGER_URL"):
        load()


@pytest.mark.parametrize(
    "token", ["short", "fifteen letters", " leading space of it", "trailing space of it ", "fünfzehn und mehr Zeichen"]
)
def test_a_token_that_is_guessed_or_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("LOCKSTEP_WATCH_TOKEN", token)
    message = misuse()
    assert "LOCKSTEP_WATCH_TOKEN is invalid" in message
    assert token not in message


def test_the_token_in_dotenv_reaches_the_service(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOCKSTEP_WATCH_TOKEN=sixteen letters!\n")
    env = load()
    assert "sixteen" not in repr(env)
    assert service_environment(env) == {"LOCKSTEP_WATCH_TOKEN": "sixteen letters!"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("LOCKSTEP_WATCH_SQS_URL", "arn:aws:sqs:eu-central-1:1:docs"), ("LOCKSTEP_WATCH_REDIS_URL", "host:6379")],
)
def test_the_address_of_a_queue_is_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert name in misuse()
