"""Questions at a steady rate while the index changes: errors, latency and the service's memory.

    python -m benchmarks.serve_soak [FOLDER] [--minutes 10] [--a-minute 1000] [--mode dense]

Starts a stack of its own in a temporary home and indexes FOLDER (default: the project's own docs). After a minute it
edits and deletes files and syncs, then it builds a new generation and promotes it. The table has each minute.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.clients import of_sorted
from benchmarks.own_stack import ROOT, lockstep, own_stack
from benchmarks.serve import QUESTIONS, served

THREADS = 32


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--a-minute", type=int, default=1000)
    options.add_argument("--mode", default="dense", choices=["dense", "hybrid"])
    given = options.parse_args()
    with own_stack(given.folder) as (env, home):
        lockstep("sync")
        lockstep("search", "warm")
        from deployments import state

        record = state.load(env.home).records["service"]
        assert record.pid
        bucket = home / "s3" / "bench"
        soak(record.url, psutil.Process(record.pid), bucket, given)


def soak(url: str, process: psutil.Process, bucket: Path, given: argparse.Namespace) -> None:
    """Ask, change the index meanwhile, and print a row for each minute."""
    ask, began = served(url, given.mode), time.monotonic()
    taken: dict[int, list[float]] = defaultdict(list)
    errors: dict[int, list[str]] = defaultdict(list)
    generations: dict[int, set[str]] = defaultdict(set)
    done: dict[int, list[str]] = defaultdict(list)

    def minute() -> int:
        return int((time.monotonic() - began) // 60)

    def one(number: int, due: float) -> None:
        try:
            told: Any = json.loads(ask(QUESTIONS[number % len(QUESTIONS)]))  # type: ignore[arg-type]
            generations[minute()].add(told["collection"])
        except Exception as error:  # noqa: BLE001 - the table counts them
            errors[minute()].append(repr(error)[:200])
        taken[minute()].append(time.monotonic() - due)  # from when it was due: a late start is part of the wait

    def change() -> None:
        time.sleep(60)
        for number, path in enumerate(sorted(bucket.rglob("*.md"))[:6]):
            if number == 0:
                path.unlink()
            else:
                path.write_text(path.read_text() + f"\n\n## Added\n\nA paragraph that was added to {path.name}.\n")
        report = lockstep("sync")
        done[minute()].append(f"sync: {report['chunks_embedded']} chunks embedded, {report['deleted']} object deleted")
        lockstep("rebuild", "--chunk-tokens", "160")
        done[minute()].append("rebuild and promotion")

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    memory: dict[int, int] = {}
    with ThreadPoolExecutor(THREADS) as threads:
        for number in range(int(given.minutes * given.a_minute)):
            due = began + number * 60 / given.a_minute
            time.sleep(max(due - time.monotonic(), 0.0))
            threads.submit(one, number, due)
            memory[minute()] = process.memory_info().rss >> 20
    changing.join(600)
    print("\n| minute | questions | errors | p50, ms | p99, ms | memory, MB | generations | meanwhile |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for at in sorted(memory):
        times = sorted(taken[at])
        p50, p99 = (1000 * of_sorted(times, share) for share in (0.5, 0.99))
        told = [at + 1, len(times), len(errors[at]), f"{p50:.0f}", f"{p99:.0f}", memory[at], len(generations[at])]
        print(f"| {' | '.join(map(str, told))} | {'; '.join(done[at])} |")
    for at, some in sorted(errors.items()):
        if some:  # a minute without an error is there too, once it was counted
            print(f"minute {at + 1}: {some[0]}")


if __name__ == "__main__":
    main()
