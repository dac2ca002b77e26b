"""Real parts for the tests: S3, Milvus, MiniLM, Prefect, SQLite and PostgreSQL, each started once and stopped after."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.pipelines import pipeline_maker
from tests.support.servers import (
    Bucket,
    Server,
    milvus_2_3_server,
    milvus_lite_server,
    missing,
    new_bucket,
    redis_server,
    s3_server_over,
    sqlite_url,
    tool,
)

os.environ.update(
    PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error"
)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say of tests that try things at random how many they tried."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "tried":
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = s3_server_over(tmp_path_factory.mktemp("s3")).start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: Server) -> Bucket:
    return new_bucket(s3_server)


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = milvus_lite_server(tmp_path_factory.mktemp("milvus-lite")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = milvus_2_3_server(tmp_path_factory.mktemp("milvus")).start()
    yield server
    server.stop()


@pytest.fixture(params=["milvus-lite", "milvus-2.3.5"])
def milvus_url(request: pytest.FixtureRequest) -> str:
    """Each Milvus in turn: the contract is the same on both."""
    return str(request.getfixturevalue("milvus_lite" if request.param == "milvus-lite" else "milvus_server").url)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A schema of its own in a real PostgreSQL."""
    import sqlalchemy as sa

    given = os.environ.get("TEST_POSTGRES_URL", "postgresql://lockstep:lockstep@127.0.0.1:5432/lockstep_test")
    url = sa.make_url(given).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, connect_args={"connect_timeout": 3})
    schema = f"test_{uuid.uuid4().hex[:12]}"
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(f"create schema {schema}"))
    except sa.exc.OperationalError as error:
        missing("PostgreSQL", f"set TEST_POSTGRES_URL ({str(error.orig).splitlines()[0]})")
    yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(sa.text(f"drop schema {schema} cascade"))
    engine.dispose()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = redis_server(tmp_path_factory.mktemp("redis")).start()
    yield server.url
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each database in turn: the contract is the same on both."""
    return sqlite_url(tmp_path) if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


NOT_NEEDED = (
    "CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "EVENT_PERSISTER", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS",
    "REPOSSESSOR", "SCHEDULER", "TASK_RUN_RECORDER", "TRIGGERS",
)  # fmt: skip


def one_certificate(folder: Path) -> Path:
    """A file for Prefect's clients, each of which reads a hundred certificates first, 20 ms, though the API is http."""
    import certifi

    whole, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    path = folder / "one.pem"
    path.write_text(whole + end + "\n")
    return path


@pytest.fixture(scope="session")
def prefect_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as Prefect makes it at its first start, which takes ten seconds: made once, then copied."""
    import prefect
    from filelock import FileLock

    cache = getattr(request.config, "cache", None)
    folder = Path(cache.mkdir("prefect")) if cache else tmp_path_factory.mktemp("prefect")
    made = folder / f"prefect-{prefect.__version__}.db"
    with FileLock(folder / "lock"):
        if not made.exists():
            unfinished = folder / "unfinished.db"
            unfinished.unlink(missing_ok=True)
            url = f"sqlite+aiosqlite:///{unfinished}"
            subprocess.run(
                [tool("prefect"), "server", "database", "upgrade", "-y"],
                env={**os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_DATABASE_CONNECTION_URL": url},
                check=True, capture_output=True,
            )  # fmt: skip
            unfinished.replace(made)
    return made


@pytest.fixture(scope="session")
def prefect_api(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's own test harness: a temporary database and server. Without heartbeats, which end a second late.

    The services that plan, watch, clean up and record task runs are off: nothing here needs them, and they cost as
    much as the rest.
    """
    from prefect.settings import (
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    from flows.prefect_runs import without_heartbeat

    off = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in NOT_NEEDED}
    off["PREFECT_LOCAL_STORAGE_PATH"] = str(tmp_path_factory.mktemp("results"))
    certificate = str(one_certificate(tmp_path_factory.mktemp("certificates")))
    off["PREFECT_API_SSL_CERT_FILE"] = certificate
    folder = tmp_path_factory.mktemp("database")
    shutil.copy(prefect_database, folder / "prefect-test.db")
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("prefect.testing.utilities.mkdtemp", lambda: str(folder))
        for name, value in off.items():
            environment.setenv(name, value)
        with (
            prefect_test_harness(server_startup_timeout=120),
            without_heartbeat(),
            temporary_settings(
                {
                    PREFECT_LOGGING_TO_API_ENABLED: False,
                    PREFECT_API_SSL_CERT_FILE: certificate,
                    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,  # a request more for each client
                }
            ),
        ):
            register_blocks_once(environment)
            yield


def register_blocks_once(patch: pytest.MonkeyPatch) -> None:
    """Register a block's type and schema with the first save of its kind: Prefect does so with each, in 30 requests."""
    from prefect.blocks.core import Block

    registered: set[type[Block]] = set()
    register: Any = Block.register_type_and_schema

    def once(kind: type[Block], *args: Any, **options: Any) -> Any:
        if kind in registered and options.get("_sync"):
            return None
        registered.add(kind)
        return register.__func__(kind, *args, **options)

    patch.setattr(Block, "register_type_and_schema", classmethod(once))


@pytest.fixture
def make_pipeline(
    prefect_api: None, s3_server: Server, milvus_lite: Server, bucket: Bucket, tmp_path: Path
) -> Callable[..., str]:
    """Save a pipeline over the test's bucket and return its name. Keyword arguments replace its settings."""
    return pipeline_maker(bucket, s3_server.url, milvus_lite.url, sqlite_url(tmp_path))


@pytest.fixture(autouse=True)
def no_waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the waiting out of retries, so that tests of them do not sleep."""
    if "prefect_api" not in request.fixturenames or request.node.get_closest_marker("waits"):
        return
    import tenacity.nap
    from prefect import Task

    from flows import ask, index_wave, sync, work
    from tasks.answers import answer

    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _seconds: None))
    for module in (sync, work, index_wave, ask, answer):
        for found in vars(module).values():
            if isinstance(found, Task):
                monkeypatch.setattr(found, "retry_delay_seconds", 0)
                monkeypatch.setattr(found, "retry_jitter_factor", None)
