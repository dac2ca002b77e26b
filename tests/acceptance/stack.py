"""A local stack and the command that drives it, from outside."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_fixed

from tests.support.warm_command import SECONDS, WarmCommand

LOCKSTEP = str(Path(sys.executable).parent / "lockstep")
ALWAYS_COLD = "up"
"""It starts processes that outlive it."""
OURS = ("LOCKSTEP_", "AWS_", "MILVUS_", "VLLM_", "PREFECT_", "LEDGER_", "EMBED_", "LLM_")
TEXT = "# Opening hours\n\nThe north gate of the harbour opens at six in the morning and closes at nine.\n"
QUESTION = "When does the north gate open?"


class Stack:
    """A running local stack and the command that drives it."""

    def __init__(self, home: Path, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        # Most tests look at what one command does, so the watcher must not be quicker.
        quiet = {"LOCKSTEP_WATCH_POLL_SECONDS": "0", **variables}
        self.env = {**kept, "LOCKSTEP_HOME": str(home / "lockstep"), "HOME": str(home), "HF_HUB_OFFLINE": "1", **quiet}
        self.folder = home
        self._cold = {"sync", "ask"}
        self._warm = WarmCommand(self.env)

    def close(self) -> None:
        """End what runs commands."""
        self._warm.__exit__()

    def run(self, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end: as it is installed when it is the first of its kind, else without its imports."""
        environment = {**self.env, **variables}
        if arguments[0] in (ALWAYS_COLD, *self._cold):
            self._cold.discard(arguments[0])
            done = subprocess.run(
                [LOCKSTEP, *arguments], env=environment, cwd=self.folder, capture_output=True, text=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        else:
            done = self._warm.run(arguments, environment, self.folder)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([LOCKSTEP, *arguments], env=self.env, cwd=self.folder, **quiet)

    def json(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.run(*arguments, "--json").stdout))


def _database_is_busy(error: BaseException) -> bool:
    """Say whether Prefect's server refused a request because others were writing: its own clients try again, too."""
    return isinstance(error, urllib.error.HTTPError) and error.code == 503


@retry(retry=retry_if_exception(_database_is_busy), wait=wait_fixed(1), stop=stop_after_attempt(10), reraise=True)
def api(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Call the Prefect API of the stack."""
    state = json.loads((Path(stack.env["LOCKSTEP_HOME"]) / "state.json").read_text())
    password = base64.b64encode(state["prefect_auth"].encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {password}"}
    request = urllib.request.Request(f"{state['records']['prefect']['url']}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = answer.read()
    return json.loads(found) if found else None


def sync_runs(stack: Stack) -> list[dict[str, Any]]:
    """All runs of the sync deployment, the newest first."""
    deployment = api(stack, "GET", "/deployments/name/sync/docs")["id"]
    return list(api(stack, "POST", "/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}}))


@contextmanager
def unattended_syncs_paused(stack: Stack) -> Iterator[None]:
    """Have no schedule and no event start a sync inside, where a test looks at what is not synced yet."""
    deployment = api(stack, "GET", "/deployments/name/sync/docs")["id"]
    api(stack, "PATCH", f"/deployments/{deployment}", {"paused": True})
    try:
        yield
    finally:
        api(stack, "PATCH", f"/deployments/{deployment}", {"paused": False})


def schedule(stack: Stack, **variables: str) -> tuple[str, str]:
    """What `status` says of the schedule: its state, and why."""
    done = subprocess.run(
        [LOCKSTEP, "status", "--json"], env={**stack.env, **variables}, cwd=stack.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    row = next(part for part in json.loads(done.stdout)["parts"] if part["name"] == "schedule")
    assert done.returncode == (row["state"] == "down")
    return row["state"], row["detail"]


def emit(stack: Stack, operation: str, key: str) -> None:
    """Tell Prefect what the bucket would: an object came or went."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"s3.object.{operation}",
        "resource": {"prefect.resource.id": f"s3://documents/{key}"},
        "payload": {},
    }
    api(stack, "POST", "/events", [event])


def eventually(happens: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"did not happen within {seconds:g} s"
        time.sleep(1)


def found_keys(stack: Stack) -> set[str]:
    return {hit["key"] for hit in stack.json("search", QUESTION, "--top-k", "10")["hits"]}
