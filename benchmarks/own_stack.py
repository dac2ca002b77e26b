"""A stack for one measurement, in a temporary home, with a folder in its bucket; and the command that works with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@contextmanager
def own_stack(folder: Path) -> Iterator[tuple[Any, Path]]:
    """Start a stack, put a folder into its bucket, and stop it at the end; gives its environment and its home."""
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as home:
        # What is measured is not to share its cores with a watcher that lists.
        quiet = {"LOCKSTEP_WATCH_POLL_SECONDS": "0"}
        os.environ |= {"LOCKSTEP_HOME": home, "BUCKET": "bench", "COLLECTION_NAME": "bench", **quiet}
        from deployments import environment
        from deployments.cli import output
        from deployments.local import stack

        env = environment.load()
        stack.up(env, output.say)
        try:
            shutil.copytree(folder, Path(home) / "s3" / "bench", dirs_exist_ok=True)
            yield env, Path(home)
        finally:
            stack.down(env, output.say)


def lockstep(*arguments: str) -> dict[str, Any]:
    """Run a command and return the JSON it prints, with ``began`` and ``ended``."""
    began = time.time()
    command = [str(Path(sys.executable).parent / "lockstep"), *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lockstep {' '.join(arguments)} failed: {done.stderr}")
    return {**json.loads(done.stdout), "began": began, "ended": time.time()}
