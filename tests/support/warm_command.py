"""Run `lockstep` from outside without its imports: `python -m tests.support.warm_command`, one JSON order per line.

A command that searches loads libraries for ten seconds, and the tests run a hundred of them. A fork of this process
carries out each order. The process has imported all libraries except Prefect, which reads the environment when it is
imported, and started nothing. Environment, folder, arguments, output and exit status are those of a separate command.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.support.servers import ROOT

LIBRARIES = ("alembic", "boto3", "fastapi", "httpx", "openai", "pandas", "sentence_transformers", "sqlalchemy", "typer")
SECONDS = 200
"""A command is killed after this time."""


class WarmCommand:
    """A process that runs commands, one after the other. The context manager ends it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start the process with the variables that libraries read when they are imported."""
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_command"], cwd=ROOT, env={**environment, **quiet}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> WarmCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run ``lockstep`` with these arguments to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            order = {
                "arguments": arguments, "environment": dict(environment), "folder": str(folder),
                "out": out.name, "err": err.name,
            }  # fmt: skip
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


def main() -> None:
    """Carry out orders until stdin ends."""
    from blocks.pymilvus_import import load_pymilvus

    for library in LIBRARIES:
        importlib.import_module(library)
    load_pymilvus()
    parsers = share_the_parsers()
    gc.freeze()  # garbage collection in a fork must not touch, and so copy, imported objects
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            parsers.ensure_running = lambda: None  # the server runs, but only its parent process can check it
            obey(**json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def obey(arguments: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    """Become the command and end like it, but without tearing down the imported modules, which takes seconds."""
    signal.alarm(SECONDS)
    for descriptor, (path, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(path, flags), descriptor)
    sys.stdin = sys.__stdin__ = _opened(0, "r")
    sys.stdout = sys.__stdout__ = _opened(1, "w")
    sys.stderr = sys.__stderr__ = _opened(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["lockstep", *arguments]
    status = 0
    try:
        from deployments.cli.main import main as command

        command()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _opened(descriptor: int, mode: str) -> IO[Any]:
    return os.fdopen(descriptor, mode, encoding="utf-8", closefd=False)


def share_the_parsers() -> Any:
    """Start the server that forks parsing processes, once for all forks, since it loads libraries for seconds."""
    from multiprocessing import forkserver

    from tasks.documents.sandbox import context

    context()
    forkserver.ensure_running()
    return forkserver._forkserver  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
