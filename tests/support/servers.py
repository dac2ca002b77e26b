"""Servers for tests: S3, Milvus Lite and the real Milvus, each with its own ports and data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(what: str, how: str) -> None:
    """Skip a test because a part is missing. In CI, where nothing may be missing, fail it."""
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
    """A server that can be stopped and restarted on the same port and data."""

    def __init__(
        self, argv: list[str], log: Path, answers: Callable[[], Any], url: str, seconds: float = 60,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.argv, self.log, self.answers, self.url, self.seconds = argv, log, answers, url, seconds
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.begin()
        return self.ready()

    def begin(self) -> None:
        """Start the server without waiting for an answer."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env=self.env,
            )  # fmt: skip

    def ready(self) -> Self:
        """Wait until the server answers."""
        assert self.process
        try:
            wait_for(self.answers, self.process, self.seconds, self.log)
        except RuntimeError:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """Kill the server with its child processes, as `kill -9` does."""
        assert self.process
        os.killpg(os.getpgid(self.process.pid), signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            group = os.getpgid(self.process.pid)  # some servers are forked by a start script
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


def s3_server_over(folder: Path) -> Server:
    """Return an S3 server whose buckets are the folders below ``folder/data``."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / "data").mkdir()
    argv = [
        tool("rclone"), "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "writes", "--vfs-write-back", "0s",
        "--cache-dir", str(folder / "cache"), "--config", str(folder / "rclone.conf"),
    ]  # fmt: skip
    return Server(argv, folder / "rclone.log", lambda: s3_client(url).list_buckets(), url)


class Bucket:
    """The bucket of one test."""

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


def redis_server(folder: Path) -> Server:
    found = shutil.which("redis-server")
    if found is None:
        missing("Redis", "apt-get install redis-server")
    port = free_port()
    argv = [str(found), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> None:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(16).startswith(b"+PONG")

    return Server(argv, folder / "redis.log", answers, url)


def moto_server(folder: Path) -> Server:
    """Return a server that plays AWS: S3, SQS, SNS and EventBridge, with notifications between them."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    return Server(argv, folder / "moto.log", lambda: s3_client(url).list_buckets(), url)


def seaweedfs(folder: Path, webhook: str, token: str) -> Server:
    """Return the real SeaweedFS, with S3 and a filer that notifies a webhook. It needs a second to start."""
    ports = {
        f"{part}.port{grpc}": free_port() for part in ("master", "volume", "filer", "s3") for grpc in ("", ".grpc")
    }
    (folder / ".seaweedfs").mkdir()
    (folder / ".seaweedfs" / "notification.toml").write_text(
        f'[notification.webhook]\nenabled = true\nendpoint = "{webhook}"\nbearer_token = "{token}"\n'
        "backoff_seconds = 1\n"
    )
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identities = [{"name": "test", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "seaweedfs").mkdir()
    argv = [
        tool("weed"), "server", f"-dir={folder / 'seaweedfs'}", "-ip=127.0.0.1", "-filer", "-s3",
        f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64", "-volume.max=20",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{ports['s3.port']}"

    def answers() -> None:
        name = f"ready-{uuid.uuid4().hex[:8]}"
        s3_client(url).create_bucket(Bucket=name)
        s3_client(url).put_object(Bucket=name, Key="ready", Body=b"ready")

    return Server(argv, folder / "seaweedfs.log", answers, url, env={**os.environ, "HOME": str(folder)})


MILVUS_PORTS = (
    "proxy", "proxy-internal", "etcd", "etcd-peer", "root-coord", "query-coord", "query-node", "index-coord",
    "index-node", "data-coord", "data-node",
)  # fmt: skip


HURRIED = {
    "PROXY_TIMETICKINTERVAL": "50", "QUERYCOORD_CHECKINTERVAL": "100", "QUERYCOORD_DISTPULLINTERVAL": "100",
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "100", "QUERYCOORD_CHECKCHANNELINTERVAL": "100",
    "INDEXCOORD_SCHEDULER_INTERVAL": "100", "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "500",
}  # fmt: skip
"""Milvus' own settings, in ms, by their names in the environment. By default Milvus' parts poll once or twice a
second. Then a strong read takes 0.4 s instead of 0.1 s, and sealing a collection 6 s instead of 3 s."""


def milvus_2_3_server(folder: Path) -> Server:
    """Return the real Milvus 2.3.5, the C++ server. Every port is unique, so that several run side by side."""
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


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"
