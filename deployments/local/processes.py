"""Start background processes, recognise and stop them, and choose ports.

A process is identified by its pid *and* its creation time. A pid that the system has given to another process is
neither counted nor signalled.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deployments.environment import inherit
from deployments.state import Record, private
from tasks.errors import MisuseError

STOP_SECONDS = 10.0

# create_time is computed from clock ticks since boot, so two readings differ by a fraction of a second.
SAME_PROCESS_SECONDS = 2.0


def spawn(argv: Sequence[str], variables: Mapping[str, str], home: Path, log: Path) -> psutil.Process:
    """Start a background process that outlives this one and appends its output to ``log``. Return the process.

    Raises OSError when the program or the log cannot be opened.
    """
    with open(log, "ab", opener=private) as output:
        return psutil.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A .env, prefect.toml or pyproject.toml in the user's folder must not change the parts.
            cwd=home,
            env=inherit(variables),
            start_new_session=True,
            # Files that the parts write in the home are readable by their owner only.
            umask=0o077,
        )


def running(record: Record | None) -> psutil.Process | None:
    """Return the live process of ``record``; None if it ended or another process has its pid now."""
    if record is None or record.pid is None or record.create_time is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.create_time) < SAME_PROCESS_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def serving(record: Record | None) -> bool:
    """Return whether the process of ``record`` listens on its port. Another program there must not get the password."""
    process = running(record)
    if process is None or record is None:
        return False
    with suppress(psutil.Error):
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == record.port for one in process.net_connections("tcp")
        )
    return False


def stop(processes: Iterable[psutil.Process], strays: Iterable[psutil.Process], seconds: float | None = None) -> None:
    """Stop ``processes`` with all their children, and ``strays``: SIGTERM, and SIGKILL after ``seconds``, or 10 s.

    psutil checks the creation time before each signal, so a reused pid is left alone.
    """
    victims = set(strays)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            victims |= {process, *process.children(recursive=True)}
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(victims, timeout=seconds or STOP_SECONDS)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_SECONDS)


def marked(variable: str, value: str) -> list[psutil.Process]:
    """Return this user's processes with ``variable`` set to ``value`` in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(variable) == value:
                found.append(process)
    return found


def free_port(wanted: int | None, taken: frozenset[int]) -> int:
    """Return ``wanted`` if no program listens there, else a free port of 127.0.0.1 that is not in ``taken``.

    Raises MisuseError if no free port is found.
    """
    for port in (wanted, *[0] * 100):
        if port is None:
            continue
        with socket.socket() as probe:
            # Without this option a port that we used a minute ago would count as taken (TIME_WAIT).
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        if port or found not in taken:
            return found
    raise MisuseError("no free port was found on 127.0.0.1. Stop other programs and run `lockstep up` again.")
