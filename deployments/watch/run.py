"""The watcher's process: `python -m deployments.watch.run <pipeline>`, as `lockstep up` starts it."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress

from deployments.environment import Environment, load


def watch(env: Environment, pipeline: str) -> None:
    """Watch until SIGTERM or SIGINT. The second SIGINT does not wait for the sync under way."""
    from prefect.exceptions import TerminationSignal

    from deployments.watch.watcher import Watcher

    watcher = Watcher(pipeline, env)

    def end(number: int, _frame: object) -> None:
        if number == signal.SIGINT and watcher.stop.is_set():
            raise KeyboardInterrupt
        watcher.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with suppress(TerminationSignal):  # Prefect ends a run so; the next watcher goes on with its work
        watcher.run()


def log_to_stderr() -> None:
    """Write the watcher's own lines to stderr, and of others what goes wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("lockstep").setLevel(logging.INFO)


if __name__ == "__main__":
    log_to_stderr()
    watch(load(), sys.argv[1])
