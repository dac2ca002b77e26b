"""The local stack: `lockstep up`, `down` and `status` as plain functions.

    up(env, report)      start the parts that are down, wait until all are healthy  → Stack
    down(env, report)    stop exactly the processes that `up` started
    status(env)          check all parts, start nothing                             → [PartStatus]
    endpoints(env)       the addresses and credentials in use                       → Endpoints

    up: lock the home ─▶ s3, milvus, prefect at once ─▶ worker ─▶ unlock
        each: configured? only check · healthy? leave · gone? start · hung? restart

Each part is a process in a session of its own, so it outlives the command. Its output goes to
``logs/<part>.log`` in the home folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deployments.endpoints import Endpoints, resolve
from deployments.environment import Environment
from deployments.local import ledger_health, processes
from deployments.local.parts import PREFECT, SCHEDULE, STOPS, USED, WAVES, WORKER, WORKER_MARK, Check, Part, Used
from deployments.state import Record, Report, State, exclusive, load, save
from tasks.errors import LockstepError, MisuseError, PartError
from tasks.sanitize import hidden

LOG_LINES = 15
POLL_SECONDS = 0.1
# Time to answer for a part that was already running, or that is not ours.
PATIENCE_SECONDS = 15.0
# Lockstep's own entries in its home: names, and prefixes of file names.
MADE = {"lock", "logs", "prefect", "milvus", "s3", "rclone", "samples"}
MADE_FILES = ("state.", "registered.", "ledger.db")


class StartError(LockstepError):
    """A part did not start or does not answer. The message names the part, its log and the log's last lines."""


@dataclass(frozen=True)
class PartStatus:
    """One row of `lockstep status`. ``url`` never holds a password, ``log`` is a file or None."""

    name: str
    state: Literal["up", "down", "not configured"]
    url: str | None = None
    pid: int | None = None
    detail: str = ""
    log: Path | None = None


@dataclass(frozen=True)
class Stack:
    """The running stack after `up`: a row for each part, the endpoints, and the duration of `up` in seconds."""

    parts: tuple[PartStatus, ...]
    endpoints: Endpoints
    seconds: float


def up(env: Environment, report: Report) -> Stack:
    """Start the parts that are not running, wait until all are healthy, and return the stack.

    A repeated call starts only missing parts. ``report`` gets one line for each part. Raises StartError when a part
    does not come up; the other parts stay up. Raises MisuseError when a program is not installed or the home folder
    cannot be used.
    """
    began = time.monotonic()
    try:
        env.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(env.home)
        for folder in (env.home / name for name in ("logs", "prefect", "milvus")):
            if not folder.exists():  # if it is a file, the part reports that
                folder.mkdir(mode=0o700)
    except OSError as error:
        raise MisuseError(
            f"LOCKSTEP_HOME {env.home} cannot be used as a folder: {error.strerror}. Set it to another folder."
        ) from error
    rows: list[PartStatus] = []
    with exclusive(env.home, report):
        state = load(env.home)
        if not state.prefect_auth:
            _stop_unguarded(env, state, report)
        state = save(env.home, state.keyed())
        for wave in WAVES:
            state, found = _raise_wave(wave, env, state, report)
            rows += found
    used = [_look_at_used(part, resolve(env, state), state) for part in USED]
    for row in used:
        report(_line(row))
    return Stack((*rows, *used), resolve(env, state), time.monotonic() - began)


def _make_private(home: Path) -> None:
    """Make Lockstep's files private that an older version left readable for others, if they can enter the home."""
    if home.stat().st_mode & 0o077:
        for entry in home.iterdir():
            if (entry.name in MADE or entry.name.startswith(MADE_FILES)) and not entry.is_symlink():
                entry.chmod(entry.stat().st_mode & 0o700)


def _stop_unguarded(env: Environment, state: State, report: Report) -> None:
    """Stop a Prefect server, and its worker, that an older version of Lockstep started without a password."""
    found = {part.name: processes.running(state.records.get(part.name)) for part in (WORKER, PREFECT)}
    if not PREFECT.configured(env) and found[PREFECT.name]:
        report("prefect: it runs without a password; restarting it with one")
        processes.stop(filter(None, [found[WORKER.name]]), [])
        processes.stop(filter(None, [found[PREFECT.name]]), [])


def down(env: Environment, report: Report) -> None:
    """Stop the processes that `up` started, with their children, and nothing else.

    The worker is stopped first and Prefect last, so that runs in progress can report their end. Each process gets
    SIGTERM, and SIGKILL after 10 s. The service has 40 s, to end the answers that it has begun. It is no error if
    nothing is running. Configured parts are left alone.
    """
    if not (env.home / "state.json").exists():
        report("nothing is running")
        return
    with exclusive(env.home, report):
        state = load(env.home)
        for wave in STOPS:
            victims = {part.name: processes.running(state.records.get(part.name)) for part in wave}
            strays = processes.marked(WORKER_MARK, resolve(env, state).worker_name) if WORKER in wave else []
            seconds = max(part.stop_seconds for part in wave)
            processes.stop([process for process in victims.values() if process], strays, seconds)
            for name, process in victims.items():
                if record := state.records.get(name):
                    report(f"{name}: {'stopped' if process else 'was not running'}")
                    state = state.keeping(record.model_copy(update={"pid": None, "create_time": None}))
            save(env.home, state)


def status(env: Environment) -> list[PartStatus]:
    """Check each part now and return a row for it. Starts and changes nothing."""
    state = load(env.home)
    here = resolve(env, state)
    with ThreadPoolExecutor(max_workers=8) as pool:
        own = [pool.submit(_look, part, env, state) for wave in WAVES for part in wave]
        used = [pool.submit(_look_at_used, part, here, state) for part in (*USED, SCHEDULE)]
        return [future.result() for future in (*own, *used)]


def canary(env: Environment) -> dict[str, Any] | None:
    """Return the canary of the environment's alias, as :func:`deployments.local.ledger_health.canary` does."""
    return ledger_health.canary(resolve(env, load(env.home)), env.collection_name)


def schedule(env: Environment) -> PartStatus:
    """Return the row of the schedule: the time of the next sync, or why none is planned."""
    state = load(env.home)
    return _look_at_used(SCHEDULE, resolve(env, state), state)


def endpoints(env: Environment) -> Endpoints:
    """Return the addresses and credentials in use.

    Raises MisuseError when `up` was not called, PartError when a part that it started is gone.
    """
    state = load(env.home)
    ours = [part.name for wave in WAVES for part in wave if part.variable and not part.configured(env)]
    missing = [name for name in ours if not processes.running(state.records.get(name))]
    if missing and missing == ours:
        raise MisuseError("the local stack is not running. Run `lockstep up` first.")
    if PREFECT.name in ours and not missing and not processes.serving(state.records.get(PREFECT.name)):
        missing = [PREFECT.name]
    if missing:
        raise PartError(f"not running: {', '.join(missing)}. Run `lockstep up` to start the missing parts.")
    return resolve(env, state)


def _raise_wave(
    wave: tuple[Part, ...], env: Environment, state: State, report: Report
) -> tuple[State, list[PartStatus]]:
    """Start the parts of ``wave``. Return the new state and a row for each part, all of them up."""
    before = state
    for part in wave:
        state = _start_if_gone(part, env, state, report)
    found = _await_all(wave, env, before, state, report)
    hung = [part for part in wave if found[part.name].state == "down" and _is_old(part, env, before, state)]
    for part in hung:
        report(f"{part.name}: runs but does not answer; restarting it")
        processes.stop(filter(None, [processes.running(state.records[part.name])]), [])
        state = _start_if_gone(part, env, state, report)
    found |= _await_all(hung, env, before, state, report)
    if errors := [_failure(part, found[part.name]) for part in wave if found[part.name].state == "down"]:
        raise StartError("\n\n".join(errors))
    return state, [*found.values()]


def _is_old(part: Part, env: Environment, before: State, state: State) -> bool:
    """Return whether a part is ours and was running before this `up`."""
    record = state.records.get(part.name)
    same = record is not None and record == before.records.get(part.name)
    return same and not part.configured(env) and processes.running(record) is not None


def _start_if_gone(part: Part, env: Environment, state: State, report: Report) -> State:
    """Start ``part`` unless it is configured or runs at the right address. Return the new state."""
    if part.configured(env):
        return state
    old = state.records.get(part.name)
    process = processes.running(old)
    port = old.port if process and old else _port(part, old, state, report)
    command = part.command(env, state, port or 0)
    try:
        for folder in command.folders:
            _make_folder(env.home, folder)
        if process and old and old.url == command.url:
            return state
        if process:
            report(f"{part.name}: restarting it, now for {command.url}")
            processes.stop([process], [])
        child = processes.spawn(command.argv, command.variables, env.home, _log(env, part))
    except OSError as error:
        raise StartError(f"{part.name} cannot be started: {error}. Fix this and run `lockstep up` again.") from error
    record = Record(
        name=part.name,
        url=command.url,
        port=port if part.listens else None,
        pid=child.pid,
        create_time=child.create_time(),
        started_at=datetime.now(UTC),
        prefect=command.variables.get("PREFECT_API_URL", ""),
    )
    return save(env.home, state.keeping(record))


def _make_folder(home: Path, folder: Path) -> None:
    """Make a folder and its parents below ``home`` with mode 0700. With ``parents=True`` the umask would decide."""
    for step in reversed([folder, *folder.parents]):
        if step.is_relative_to(home):
            step.mkdir(mode=0o700, exist_ok=True)


def _port(part: Part, old: Record | None, state: State, report: Report) -> int:
    """Return the port for ``part``: its last port, unless another program has taken it."""
    if not part.listens:
        return 0
    wanted = old.port if old else None
    taken = frozenset(record.port for record in state.records.values() if record.port)
    port = processes.free_port(wanted, taken)
    if wanted and port != wanted:
        report(f"{part.name}: port {wanted} is taken by another program; using {port} from now on")
    return port


def _await_all(
    parts: Sequence[Part], env: Environment, before: State, state: State, report: Report
) -> dict[str, PartStatus]:
    """Wait for ``parts`` in parallel and return their rows. A part that did not come up is "down"."""

    def wait(part: Part) -> PartStatus:
        old = bool(part.configured(env)) or _is_old(part, env, before, state)
        row = _await(part, env, state, PATIENCE_SECONDS if old else part.start_seconds)
        if row.state == "up":
            report(_line(row, "" if old else "started"))
        return row

    with ThreadPoolExecutor(max_workers=len(WAVES[0])) as pool:
        return {row.name: row for row in pool.map(wait, parts)}


def _await(part: Part, env: Environment, state: State, seconds: float) -> PartStatus:
    """Return the row of ``part`` as soon as it is up. If it ends or time is over, return its last row."""
    deadline = time.monotonic() + seconds
    while True:
        row = _look(part, env, state)
        gone = not part.configured(env) and row.pid is None
        if row.state == "up" or gone or time.monotonic() > deadline:
            return row
        time.sleep(POLL_SECONDS)


def _look(part: Part, env: Environment, state: State) -> PartStatus:
    """Check ``part`` once and return its row."""
    here = resolve(env, state)
    configured = part.configured(env)
    record = state.records.get(part.name)
    if configured:
        return _checked(PartStatus(part.name, "down", hidden(configured)), part.check, here, state)
    if record is None:
        return PartStatus(part.name, "down", detail="never started: run `lockstep up`")
    row = PartStatus(part.name, "down", hidden(record.url), log=_log(env, part))
    process = processes.running(record)
    if process is None:
        gone = "its process is gone" if record.pid else "stopped"
        return replace(row, detail=f"{gone}: run `lockstep up`")
    return _checked(replace(row, pid=process.pid), part.check, here, state)


def _look_at_used(part: Used, here: Endpoints, state: State) -> PartStatus:
    url = part.url(here)
    if url is None:
        return PartStatus(part.name, "not configured", detail=part.unset)
    return _checked(PartStatus(part.name, "down", hidden(url)), part.check, here, state)


def _checked(row: PartStatus, check: Check, here: Endpoints, state: State) -> PartStatus:
    try:
        return replace(row, state="up", detail=check(here, state))
    except PartError as error:
        return replace(row, detail=str(error))


def _failure(part: Part, row: PartStatus) -> str:
    """Return the message for a part that is not up. The advice depends on whether Lockstep started the part."""
    if row.log is None:
        return (
            f"{part.name} at {row.url} does not work: {row.detail}. It is set by {part.variable}, so Lockstep does not "
            f"start its own. Fix it, or unset {part.variable} to let Lockstep start one."
        )
    what = "ended before it answered" if row.pid is None else f"does not answer ({row.detail})"
    lines = row.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return (
        f"{part.name} {what}. The last lines of {row.log}:\n"
        + "\n".join(f"    {line}" for line in lines or ["(nothing)"])
        + "\nFix this and run `lockstep up` again. The running parts stay up."
    )


def _log(env: Environment, part: Part) -> Path:
    return env.home / "logs" / f"{part.name}.log"


def _line(row: PartStatus, how: str = "") -> str:
    """Return a row as one line: "milvus: up at http://… (started)"."""
    notes = ", ".join(filter(None, [how, row.detail]))
    return f"{row.name}: {row.state}{f' at {row.url}' if row.url else ''}{f' ({notes})' if notes else ''}"
