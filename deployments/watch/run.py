"""The watcher's process: `python -m deployments.watch.run <pipeline>`, as `lockstep up` starts it."""

from __future__ import annotations

import logging
import signal
import sys

from deployments.environment import Environment, load


def watch(env: Environment, pipeline: str) -> None:
    """Watch until SIGTERM or SIGINT."""
    from deployments.watch.watcher import Watcher

    watcher = Watcher(pipeline, env)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop.set())
    watcher.run()


def log_to_stderr() -> None:
    """Write the watcher's own lines to stderr, and of others what goes wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("lockstep").setLevel(logging.INFO)


if __name__ == "__main__":
    log_to_stderr()
    watch(load(), sys.argv[1])
