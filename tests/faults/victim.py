"""Run syncs that are killed: `python -m tests.faults.victim`, one JSON order a line, one exit status a line back.

Each order is carried out by a fork of this process, which has imported everything and started nothing, so
that a victim costs a second and not ten. A fork kills itself, as `kill -9` would, when it comes to the
place between two effects that the order names, for the n-th time.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    """Carry out orders until stdin ends."""
    import sentence_transformers  # noqa: F401 - imported before the fork, as are the next two

    import flows.sync
    from blocks.pymilvus_import import load_pymilvus

    load_pymilvus()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                obey(flows.sync.sync, **order)
            finally:
                os._exit(3)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def obey(sync: object, pipeline: str, place: str, time: int) -> None:
    """Sync, and die at the place; exits with 0 when it never comes there."""
    from tasks.between import listeners

    left = [time]

    def die(reached: str) -> None:
        left[0] -= reached == place
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    listeners.append(die)  # type: ignore[arg-type]
    sync(pipeline)  # type: ignore[operator]
    os._exit(0)


if __name__ == "__main__":
    main()
