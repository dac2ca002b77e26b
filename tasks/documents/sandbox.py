"""Run a parser in a process of its own, with a time limit and a memory limit."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from tasks.errors import PermanentError, TransientError

FILES_PER_PROCESS = 500
"""A process is replaced after this many files, because parsers leak memory."""


OUT_OF_MEMORY = 77
"""The exit status of a process that hit its memory limit."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call in a process, and its future result."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    future: Any


class Isolated:
    """A pool of parsing processes; a context manager that ends them.

    ``seconds`` is the time limit of one file. ``memory_mb`` is the number of MiB that a process may allocate after it
    has loaded its libraries. The memory limit holds on Linux only.
    """

    def __init__(self, processes: int, seconds: float, memory_mb: int) -> None:
        self.seconds = seconds
        self.memory_mb = memory_mb
        self._pool = functools.partial(ProcessPool, initializer=prepare, initargs=[memory_mb], context=context())
        self._many = self._pool(max_workers=processes, max_tasks=FILES_PER_PROCESS)

    def __enter__(self) -> Isolated:
        """Return the pool. Its processes start with the first file."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End the processes: at once after an error, otherwise when their work is done."""
        self._many.stop() if kind else self._many.close()
        self._many.join()

    def start(self, function: Callable[..., Any], *args: Any) -> Attempt:
        """Start ``function(*args)`` in a process and return a handle for :meth:`result`."""
        return Attempt(function, args, self._schedule(self._many, function, *args))

    def _schedule(self, pool: ProcessPool, function: Callable[..., Any], *args: Any) -> Any:
        return pool.schedule(within_memory, args=[function, *args], timeout=self.seconds)

    def result(self, attempt: Attempt) -> Any:
        """Wait for a result. Raises ``PermanentError`` if a limit was hit or the parser crashed."""
        try:
            return self._result(attempt.future)
        except ProcessExpired:
            # Earlier files may have left the process little memory. So the file gets a second try in a fresh one.
            with self._pool(max_workers=1, max_tasks=1) as alone:
                return self._alone(self._schedule(alone, attempt.function, *attempt.args))

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except FutureTimeoutError as error:
            raise PermanentError(f"reading it took more than {self.seconds:g} s and was stopped") from error
        except ProcessExpired as error:
            if abs(error.exitcode or 0) in (signal.SIGTERM, signal.SIGINT):
                raise TransientError("another process stopped the parsing. The next sync goes on") from error
            raise

    def _alone(self, future: Any) -> Any:
        try:
            return self._result(future)
        except ProcessExpired as error:
            limit = f"{self.memory_mb} MiB (parse_memory_mb)"
            if error.exitcode == OUT_OF_MEMORY:
                raise PermanentError(f"reading it needs more memory than the limit of {limit}") from error
            reason = f"the parser crashed on it (exit code {error.exitcode}), perhaps at its memory limit of {limit}"
            raise PermanentError(reason) from error


def within_memory(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function, and end the process if it runs out of memory: the next file would fail in it, too."""
    try:
        return function(*args)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def context() -> Any:
    """Return the multiprocessing context: forks of a small server that has loaded the parsers and has no threads.

    A fork of this process would copy locks that its threads hold (torch, gRPC, Prefect). A process started afresh would
    load the parsers, which takes seconds, each time that one is replaced.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tasks.documents.without_torch", "tasks.documents.preloaded"])
    return made


def prepare(memory_mb: int) -> None:
    """Prepare a new process for parsing, then limit how many MiB more it may allocate."""
    from tasks.documents.parse import use_plain_tokenizer

    use_plain_tokenizer()
    if sys.platform == "linux":
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
