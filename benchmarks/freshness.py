"""How soon a change of the bucket is answered: from PUT to the first search with it, DELETE to the first without.

    python -m benchmarks.freshness [--ways events poll trigger schedule] [--objects 100] [--milvus URI] [--busy 1000]
                                   [--pause 3] [--plot freshness.png] [--json]

    events     the watcher, and a notification that this program posts to the service right after the change, as an S3
               server does
    poll       the watcher, which lists the bucket
    trigger    the trigger of the deployment: an event in Prefect's feed, and a worker that starts a process
    schedule   nothing but the schedule, every 5 minutes

Each way has a stack of its own in a temporary home, with the project's docs in its bucket. An object has 2 kB of
Markdown. A search asks every 50 ms. `trigger` takes a tenth of the objects, `schedule` three. With ``--busy`` a sync of
so many other objects runs meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.clients import of_sorted
from benchmarks.own_stack import ROOT
from deployments import state

ASKED_EVERY_SECONDS = 0.05
LONGEST_SECONDS = 700.0
TOKEN = "a token of this measurement"
WAYS: dict[str, dict[str, str]] = {
    "events": {"LOCKSTEP_WATCH_TOKEN": TOKEN, "LOCKSTEP_WATCH_POLL_SECONDS": "0"},
    "poll": {},
    "trigger": {"LOCKSTEP_WATCH_POLL_SECONDS": "0"},
    "schedule": {"LOCKSTEP_WATCH_POLL_SECONDS": "0"},
}
SHARES = {"trigger": 10, "schedule": 30}
"""The slow ways take so many times fewer objects."""
LOCKSTEP = str(Path(sys.executable).parent / "lockstep")


@dataclass(frozen=True)
class Measured:
    """The seconds of each change of one way."""

    way: str
    put: list[float]
    delete: list[float]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--ways", nargs="+", default=["events", "poll", "trigger"], choices=list(WAYS))
    options.add_argument("--objects", type=int, default=100)
    options.add_argument("--milvus", default="")
    options.add_argument("--busy", type=int, default=0)
    options.add_argument("--pause", type=float, default=3.0, help="seconds between two changes, plus or minus a half")
    options.add_argument("--plot", type=Path)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found = [measure(way, max(given.objects // SHARES.get(way, 1), 3), given) for way in given.ways]
    if given.plot:
        plot(found, given.plot)
    if given.json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(rows(found)) + "\n")


def rows(found: list[Measured]) -> list[str]:
    lines = ["| way | change | objects | p50, s | p95, s | slowest, s |", "| --- | --- | --- | --- | --- | --- |"]
    for one in found:
        for name, seconds in (("PUT", sorted(one.put)), ("DELETE", sorted(one.delete))):
            p50, p95 = of_sorted(seconds, 0.5), of_sorted(seconds, 0.95)
            lines.append(f"| {one.way} | {name} | {len(seconds)} | {p50:.2f} | {p95:.2f} | {seconds[-1]:.2f} |")
    return lines


@contextmanager
def stack(variables: dict[str, str]) -> Iterator[Path]:
    """Start a stack with these variables, with the docs indexed and everything loaded. Gives its home."""
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        home = Path(folder)
        os.environ |= {"LOCKSTEP_HOME": folder, "BUCKET": "bench", "COLLECTION_NAME": "bench", **variables}
        try:
            run("up")
            shutil.copytree(ROOT / "docs", home / "s3" / "bench", dirs_exist_ok=True)
            run("sync")
            yield home
        finally:
            run("down")
            for name in variables:
                del os.environ[name]


def run(*arguments: str) -> None:
    done = subprocess.run([LOCKSTEP, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lockstep {' '.join(arguments)} failed: {done.stderr}")


def text(mark: str) -> str:
    """Return 2 kB of Markdown."""
    line = f"The exhibit {mark} stands in the hall of the museum beside others of its kind. "
    return f"# Exhibit {mark}\n\n" + "\n\n".join(line * 3 for _ in range(8))[:1950] + "\n"


def measure(way: str, objects: int, given: argparse.Namespace) -> Measured:
    """Change objects one after the other, and measure each."""
    variables = WAYS[way] | ({"MILVUS_URI": given.milvus} if given.milvus else {})
    with stack(variables) as home:
        known, bucket = state.load(home), home / "s3" / "bench"
        client = httpx.Client(
            base_url=known.records["service"].url,
            headers={"authorization": f"Bearer {known.service_key}"},
            timeout=60,
        )
        tell = TELLERS.get(way, lambda _known, _key: None)
        one = Object(client, bucket, lambda key: tell(known, key))
        one.measured(warm := f"warm{uuid.uuid4().hex[:8]}", there=True)
        one.measured(warm, there=False)
        busy = others(bucket, given.busy) if given.busy else None
        put: list[float] = []
        delete: list[float] = []
        for number in range(objects):
            mark = f"m{uuid.uuid4().hex[:10]}"
            for seconds, there in ((put, True), (delete, False)):
                time.sleep(given.pause * random.uniform(0.5, 1.5))
                seconds.append(one.measured(mark, there=there))
            show(f"\r{way}: {number + 1} of {objects}, PUT {put[-1]:.2f} s, DELETE {delete[-1]:.2f} s ")
            if busy and busy.poll() is not None:
                show(f"(the other sync ended after {number + 1} objects)")
                break
        show("\n")
        if busy:
            busy.wait()
        return Measured(way, put, delete)


def show(said: str) -> None:
    sys.stderr.write(said)
    sys.stderr.flush()


def others(bucket: Path, number: int) -> subprocess.Popen[bytes]:
    """Put so many other objects, and begin a sync of them."""
    (bucket / "others").mkdir()
    for one in range(number):
        (bucket / "others" / f"{one}.md").write_text(text(f"other {one}"))
    return subprocess.Popen([LOCKSTEP, "sync"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Object:
    """Puts and deletes objects, and asks until a search knows."""

    def __init__(self, client: httpx.Client, bucket: Path, tell: Callable[[str], None]) -> None:
        self._client, self._bucket, self._tell = client, bucket, tell

    def measured(self, mark: str, *, there: bool) -> float:
        """Put an object, or delete it; return the seconds until the first search that agrees."""
        key = f"exhibits/{mark}.md"
        path = self._bucket / key
        path.parent.mkdir(exist_ok=True)
        if there:  # at once, as an S3 server does
            made = self._bucket.parent / f"{mark}.part"
            made.write_text(text(mark))
            made.rename(path)
        else:
            path.unlink()
        began = time.monotonic()
        self._tell(key)
        while self._finds(mark, key) is not there:
            if time.monotonic() - began > LONGEST_SECONDS:
                sys.exit(f"'{key}' was not {'found' if there else 'gone'} after {LONGEST_SECONDS:g} s")
            time.sleep(ASKED_EVERY_SECONDS)
        return time.monotonic() - began

    def _finds(self, mark: str, key: str) -> bool:
        asked = {"question": f"Where does the exhibit {mark} stand?", "top_k": 20}
        answer = self._client.post("/search", json=asked)
        answer.raise_for_status()
        return any(hit["key"] == key for hit in answer.json()["hits"])


def notify(known: state.State, key: str) -> None:
    """Post the notification that AWS' S3 and others send."""
    record = {
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "bench"}, "object": {"key": key}},
    }  # fmt: skip
    answer = httpx.post(
        f"{known.records['service'].url}/notifications/bench",
        json={"Records": [record]},
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    answer.raise_for_status()


def emit(known: state.State, key: str) -> None:
    """Send the event that the deployment's trigger waits for to Prefect."""
    event: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "s3.object.changed",
        "resource": {"prefect.resource.id": f"s3://bench/{key}"},
        "payload": {},
    }
    user, _, password = known.prefect_auth.partition(":")
    url = f"{known.records['prefect'].url}/events"
    httpx.post(url, json=[event], auth=(user, password), timeout=30).raise_for_status()


TELLERS: dict[str, Callable[[state.State, str], None]] = {"events": notify, "trigger": emit}


def plot(found: list[Measured], path: Path) -> None:
    """Draw the share of changes that are answered after so many seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6))
    for one in found:
        for name, seconds, style in (("PUT", sorted(one.put), "-"), ("DELETE", sorted(one.delete), "--")):
            shares = [100 * (at + 1) / len(seconds) for at in range(len(seconds))]
            axes.step(seconds, shares, style, where="post", label=f"{one.way}, {name}")
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the change to the first answer that knows")
    axes.set_ylabel("changes, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=140)


if __name__ == "__main__":
    main()
