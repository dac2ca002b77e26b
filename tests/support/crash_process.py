"""Run syncs and kill them: `python -m tests.support.crash_process`, one JSON order and one exit status per line.

A fork of this process carries out each order. The process has imported everything and started nothing, so that an
order costs one second instead of ten. A fork kills itself, as `kill -9` would, when it first reaches the order's crash
point, or after the given seconds. It writes the hashes of the texts that it embeds to a file, one batch per line.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.warm_command import share_the_parsers


def main() -> None:
    """Carry out orders until stdin ends."""
    import sentence_transformers  # noqa: F401 - imported before the fork, as are the next two

    import flows.audit
    import flows.collect_garbage
    import flows.rebuild
    import flows.rollback  # noqa: F401
    from blocks.pymilvus_import import load_pymilvus

    load_pymilvus()
    parsers = share_the_parsers()
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                parsers.ensure_running = lambda: None  # the server runs, but only its parent process can check it
                obey(**order)
            finally:
                os._exit(3)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def die() -> None:
    """Die as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def obey(pipeline: str, place: str = "", seconds: float = 0, notes: str = "", run: str = "sync") -> None:
    """Carry out a ``run`` of the pipeline and die at ``place`` or after some seconds. Exit with 0 otherwise."""
    from blocks.settings import Settings
    from flows.audit import audit
    from flows.collect_garbage import collect_garbage
    from flows.promote import promote
    from flows.rebuild import rebuild
    from flows.rollback import rollback
    from flows.sync import sync
    from tasks.crash_points import listeners

    listeners.append(lambda reached: die() if reached == place else None)
    if seconds:
        threading.Thread(target=lambda: (time.sleep(seconds), die()), daemon=True).start()
    if notes:
        note_what_is_embedded(Path(notes))
    runs = {
        "sync": lambda: sync(pipeline),
        "repair": lambda: audit(pipeline, repair=True),
        "rebuild": lambda: rebuild(pipeline, Settings(embed_heading=False)),
        "canary": lambda: promote(pipeline, canary=[50, 100], hold_seconds=0.0),
        "rollback": lambda: rollback(pipeline),
        "collect garbage": lambda: collect_garbage(pipeline),
    }
    runs[run]()
    os._exit(0)


def note_what_is_embedded(notes: Path) -> None:
    """Append a line to a file for each batch that goes through the model: the hashes of its texts."""
    from tasks.embedding import batch

    encode = batch.encode_what_can

    def noting(model: Any, texts: Any) -> Any:
        with notes.open("a") as file:
            file.write(" ".join(texts) + "\n")
        return encode(model, texts)

    batch.encode_what_can = noting


if __name__ == "__main__":
    main()
