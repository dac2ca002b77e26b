"""Real parts for the tests: S3, Milvus, MiniLM, Prefect, SQLite and PostgreSQL, each started once and stopped after."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"

os.environ.update(
    PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(what: str, how: str) -> None:
    """Skip a test whose part is not here; in CI, where everything must be, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI skips nothing: {how}")
    pytest.skip(f"{what} is not here: {how}")


def wait_for(answers: Callable[[], Any], process: subprocess.Popen[bytes], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            answers()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{log.stem} did not come up: {error}\n{tail}") from error
            time.sleep(0.2)
        else:
            return


class Server:
    """A server of the tests: can be stopped and started again on the same port and data."""

    def __init__(
        self, argv: list[str], log: Path, answers: Callable[[], Any], url: str, seconds: float = 60,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.argv, self.log, self.answers, self.url, self.seconds = argv, log, answers, url, seconds
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env=self.env,
            )  # fmt: skip
        try:
            wait_for(self.answers, self.process, self.seconds, self.log)
        except RuntimeError:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """Kill it as `kill -9` does, with the processes that it started."""
        assert self.process
        os.killpg(os.getpgid(self.process.pid), signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            group = os.getpgid(self.process.pid)  # some servers are started by a script that forks them
            os.killpg(group, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self.process.wait(10)


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def s3_client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / "data").mkdir()
    argv = [
        tool("rclone"), "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "writes", "--vfs-write-back", "0s",
        "--cache-dir", str(folder / "cache"), "--config", str(folder / "rclone.conf"),
    ]  # fmt: skip
    server = Server(argv, folder / "rclone.log", lambda: s3_client(url).list_buckets(), url).start()
    yield server
    server.stop()


class Bucket:
    """A bucket of one test."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def put(self, key: str, body: str | bytes, **options: Any) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **options)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


def new_bucket(server: Server) -> Bucket:
    client = s3_client(server.url)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


@pytest.fixture
def bucket(s3_server: Server) -> Bucket:
    return new_bucket(s3_server)


def milvus_answers(url: str) -> Callable[[], Any]:
    def answers() -> None:
        from blocks.milvus_store import MilvusStore

        client = MilvusStore(uri=url, timeout_seconds=3).get_client()
        client.list_collections()
        client.close()

    return answers


def milvus_lite_server(folder: Path) -> Server:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data = ["--data-dir", str(folder / "milvus-lite")]
    argv = [tool("milvus-lite"), "server", *data, "--host", "127.0.0.1", "--port", str(port)]
    return Server(argv, folder / "milvus-lite.log", milvus_answers(url), url)


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = milvus_lite_server(tmp_path_factory.mktemp("milvus-lite")).start()
    yield server
    server.stop()


MILVUS_PORTS = (
    "proxy", "proxy-internal", "etcd", "etcd-peer", "root-coord", "query-coord", "query-node", "index-coord",
    "index-node", "data-coord", "data-node",
)  # fmt: skip

HURRIED = {
    "PROXY_TIMETICKINTERVAL": "50", "QUERYCOORD_CHECKINTERVAL": "100", "QUERYCOORD_DISTPULLINTERVAL": "100",
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "100", "QUERYCOORD_CHECKCHANNELINTERVAL": "100",
    "INDEXCOORD_SCHEDULER_INTERVAL": "100", "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "500",
}  # fmt: skip
"""Milvus' own settings, in ms, by the names under which it reads them from the environment. By default its parts look
around once or twice a second: strong reads then take 0.4 s where these take 0.1, sealing a collection 6 s and not 3."""


def milvus_2_3_server(folder: Path) -> Server:
    """The real Milvus 2.3.5, the C++ server; every port is its own, so that several run side by side."""
    program = shutil.which("milvus-server") or str(ROOT / ".venv-milvus" / "bin" / "milvus-server")
    if not Path(program).exists():
        missing("the Milvus 2.3.5 server", "run `make milvus-server`")
    ports = dict.fromkeys(MILVUS_PORTS, 0)
    while len(set(ports.values())) < len(ports):
        ports = {name: free_port() for name in ports}
    url = f"http://127.0.0.1:{ports['proxy']}"
    client, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "etcd-peer"))
    etcd = {
        "name": "default", "initial-cluster": f"default={peer}",
        "listen-client-urls": client, "advertise-client-urls": client,
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
    }  # fmt: skip
    config = folder / "etcd.yaml"
    config.write_text("\n".join(f"{name}: {value}" for name, value in etcd.items()))
    argv = [program, "--data", str(folder / "milvus-server")]
    for name in ports.keys() - {"etcd-peer"}:
        argv += [f"--{name}-port", str(ports[name])]
    env = {**os.environ, **HURRIED, "ETCD_CONFIG_PATH": str(config)}
    return Server(argv, folder / "milvus-server.log", milvus_answers(url), url, seconds=120, env=env)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = milvus_2_3_server(tmp_path_factory.mktemp("milvus")).start()
    yield server
    server.stop()


@pytest.fixture(params=["milvus-lite", "milvus-2.3.5"])
def milvus_url(request: pytest.FixtureRequest) -> str:
    """Each Milvus in turn: the contract is the same on both."""
    return str(request.getfixturevalue("milvus_lite" if request.param == "milvus-lite" else "milvus_server").url)


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"


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
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's own test harness: a temporary database and server. Without heartbeats, which end a second late.

    The services that plan, watch, clean up and record task runs are off: nothing here needs them, and they cost as
    much as the rest.
    """
    from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    from flows.without_heartbeat import without_heartbeat

    off = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in NOT_NEEDED}
    off["PREFECT_LOCAL_STORAGE_PATH"] = str(tmp_path_factory.mktemp("results"))
    certificate = str(one_certificate(tmp_path_factory.mktemp("certificates")))
    off["PREFECT_API_SSL_CERT_FILE"] = certificate
    with pytest.MonkeyPatch.context() as environment:
        for name, value in off.items():
            environment.setenv(name, value)
        with (
            prefect_test_harness(server_startup_timeout=120),
            without_heartbeat(),
            temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False, PREFECT_API_SSL_CERT_FILE: certificate}),
        ):
            yield


def pipeline_maker(bucket: Bucket, s3_url: str, milvus_url: str, ledger_url: str) -> Callable[..., str]:
    """Return a function that saves a pipeline over a bucket and returns its name; see ``make`` for what it takes."""
    from prefect_aws import AwsCredentials
    from pydantic import SecretStr

    from blocks.embedder import Embedder
    from blocks.ledger import Ledger
    from blocks.milvus_store import MilvusStore
    from blocks.pipeline import Pipeline
    from blocks.s3_source import S3Source
    from blocks.settings import Settings
    from deployments.register import save

    own = f"t{uuid.uuid4().hex[:10]}"
    credentials = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )

    def make(
        source: dict[str, Any] | None = None,
        embedder: dict[str, Any] | None = None,
        ledger: str = ledger_url,
        milvus: str = milvus_url,
        chat_model: Any = None,
        alias: str = own,
        name: str = own,
        **settings: Any,
    ) -> str:
        of_source = {"bucket": bucket.name, "endpoint_url": s3_url, "credentials": credentials, **(source or {})}
        pipeline = Pipeline(
            alias=alias,
            source=S3Source(**of_source),
            store=MilvusStore(uri=milvus),
            embedder=Embedder(**(embedder or {})),
            ledger=Ledger(url=SecretStr(ledger)),
            chat_model=chat_model,
            settings=Settings(**settings),
        )
        return save(pipeline, name)

    return make


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

    from flows import ask, index_wave, sync
    from tasks.answers import answer

    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _seconds: None))
    for module in (sync, index_wave, ask, answer):
        for found in vars(module).values():
            if isinstance(found, Task):
                monkeypatch.setattr(found, "retry_delay_seconds", 0)
                monkeypatch.setattr(found, "retry_jitter_factor", None)
