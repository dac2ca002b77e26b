"""A command that only reads saves nothing; one that saves does not save another bucket over an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments import environment
from deployments.deploy import Before, as_it_was, as_saved, ensure_registered, put_back_unless_taken
from deployments.local import parts
from deployments.register import describe
from deployments.state import State
from tasks.bucket.identity import source_of
from tasks.errors import DeletionError, MisuseError, SourceError
from tasks.generations.claims import Claim
from tasks.ledger.database import Database
from tasks.ledger.generations import follow_alias_in_ledger, record_generation, record_source
from tasks.models import Loss
from tasks.pipelines import load_pipeline
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server, sqlite_url

Given = Callable[..., tuple[environment.Environment, parts.Endpoints]]


def indexed(name: str) -> None:
    """Have the ledger say that a generation of the saved pipeline is live."""
    pipeline = load_pipeline(name)
    ledger = Database(pipeline.ledger)
    record_generation(ledger, f"{pipeline.alias}_g0001", pipeline.alias, "any", {})
    record_source(ledger, f"{pipeline.alias}_g0001", Claim(source_of(pipeline.source, "mine"), ()).as_row())
    follow_alias_in_ledger(ledger, pipeline.alias, f"{pipeline.alias}_g0001")
    ledger.engine.dispose()


@pytest.fixture
def given(
    prefect_api: None,
    s3_server: Server,
    milvus_lite: Server,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Given:
    """Return the environment as it is read, with some variables changed."""
    from prefect.settings import PREFECT_API_URL

    alias = f"saved_{bucket.name[-12:]}"
    variables = {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "BUCKET": bucket.name,
        "MILVUS_URI": milvus_lite.url,
        "LEDGER_URL": sqlite_url(tmp_path),
        "COLLECTION_NAME": alias,
        "LOCKSTEP_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
    }
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)

    def read(**changed: str) -> tuple[environment.Environment, parts.Endpoints]:
        with monkeypatch.context() as patch:
            for name, value in {**variables, **changed}.items():
                patch.setenv(name, value)
            env = environment.load()
        return env, parts.resolve(env, State())

    return read


def test_a_command_that_only_reads_saves_nothing_and_says_what_differs(
    given: Given,
) -> None:
    name = ensure_registered(*given())
    indexed(name)
    said: list[str] = []
    assert as_saved(*given(), said.append) == name
    assert said == []
    changed = given(PREFIX="gudies/", LOCKSTEP_TOP_K="3", AWS_SECRET_ACCESS_KEY="never-shown")
    assert as_saved(*changed, said.append) == name
    told = " ".join(said)
    for word in ("PREFIX (saved: none, here: gudies/)", "LOCKSTEP_TOP_K (saved: 8, here: 3)", "AWS_ACCESS_KEY_ID"):
        assert word in told, word
    assert "lockstep up" in told
    assert "never-shown" not in told
    assert SECRET_KEY not in told
    assert load_pipeline(name).source.prefix == ""


def test_another_bucket_is_not_saved_over_an_index_until_it_is_accepted(
    given: Given,
) -> None:
    name = ensure_registered(*given())
    other = given(PREFIX="gudies/")
    ensure_registered(*other)  # nothing is indexed yet
    ensure_registered(*given())
    indexed(name)
    with pytest.raises(SourceError, match=r"guides|gudies") as refused:
        ensure_registered(*other)
    assert "--accept-source" in str(refused.value)
    assert load_pipeline(name).source.prefix == ""
    ensure_registered(*other, accept_source=True)
    assert load_pipeline(name).source.prefix == "gudies/"
    ensure_registered(*given())  # the way back is free: it is what the generations hold
    assert load_pipeline(name).source.prefix == ""


def refused(
    given: Given, before: Before | None, said: list[str], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Do what a command does whose sync is stopped."""

    def stopped() -> None:
        with put_back_unless_taken(given()[0], before, said.append):
            meanwhile()
            raise DeletionError("too many", Loss(6, 6, 0))

    with pytest.raises(DeletionError):
        stopped()


def test_a_pipeline_whose_move_was_stopped_is_put_back(given: Given) -> None:
    """A mistyped prefix that came with a yes: the worker goes on with the right one, and so does who mends the typo."""
    name = ensure_registered(*given())
    indexed(name)
    said: list[str] = []
    wrong = given(PREFIX="gudies/")
    before = as_it_was(given()[0], name)
    ensure_registered(*wrong, accept_source=True)
    refused(given, before, said)
    assert load_pipeline(name).source.prefix == ""
    assert "again, as before" in " ".join(said)
    assert as_saved(*given(), said.append) == name
    assert len(said) == 1, "the environment is what was saved"
    with pytest.raises(SourceError):
        ensure_registered(*wrong)


def test_a_pipeline_whose_move_went_on_stays_moved_whatever_comes_after(given: Given) -> None:
    name = ensure_registered(*given())
    indexed(name)
    before, said = as_it_was(given()[0], name), list[str]()
    ensure_registered(*given(PREFIX="manuals/"), accept_source=True)
    indexed(name)
    refused(given, before, said)
    assert (load_pipeline(name).source.prefix, said) == ("manuals/", [])


def test_what_somebody_else_saved_meanwhile_is_not_put_back(given: Given) -> None:
    name = ensure_registered(*given())
    indexed(name)
    before, said = as_it_was(given()[0], name), list[str]()
    ensure_registered(*given(PREFIX="gudies/"), accept_source=True)
    refused(given, before, said, meanwhile=lambda: ensure_registered(*given(PREFIX="manuals/"), accept_source=True))
    assert (load_pipeline(name).source.prefix, said) == ("manuals/", [])


def test_nothing_is_saved_for_a_name_that_was_never_saved(
    given: Given,
) -> None:
    name = as_saved(*given(), print)
    with pytest.raises(MisuseError, match="lockstep up"):
        load_pipeline(name)


def test_the_embedded_server_is_known_by_its_home_not_by_its_port(tmp_path: Path) -> None:
    env = environment.Environment(home=tmp_path, milvus_uri="http://127.0.0.1:9")
    state = State(access_key="one", secret_key="two")
    record = {"name": "s3", "url": "http://127.0.0.1:1111"}
    first = describe(env, parts.resolve(env, State.model_validate({**state.model_dump(), "records": {"s3": record}})))
    record = {"name": "s3", "url": "http://127.0.0.1:2222"}
    then = describe(env, parts.resolve(env, State.model_validate({**state.model_dump(), "records": {"s3": record}})))
    assert first.source.endpoint_url != then.source.endpoint_url
    assert source_of(first.source) == source_of(then.source)
    other = describe(env, parts.resolve(env, State(access_key="another", secret_key="two")))
    assert source_of(first.source) != source_of(other.source)
    assert first.source.folder == str(tmp_path / "s3" / "documents")
