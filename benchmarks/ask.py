"""What does a question cost beside embedding, search and answer: as a plain function, as a flow, with heartbeats?

    python -m benchmarks.ask [FOLDER] [TIMES]        default: the project's own docs, 30 times

Starts a stack of its own in a temporary home, puts FOLDER into its bucket and syncs it. Then asks the same questions
in each way, and prints the median of a call, of the stages that its answer names, and of what lies between.
The answers are extracted, so that no model's speed is in the way.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.own_stack import ROOT, lockstep, own_stack
from benchmarks.swap import QUESTIONS

STAGES = ("embed", "search", "extract")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    with own_stack(folder) as (env, _):
        done = lockstep("sync")
        print(f"\n{folder}: {done['new']} objects, {done['chunks_embedded']} chunks; medians of {times} questions")
        measure(env, times)


def timed(call: Callable[[str], Any], times: int) -> list[tuple[float, float]]:
    """Return the seconds of each call and of its stages; the first, which pays for loading, is left out."""
    measured: list[tuple[float, float]] = []
    for n in range(times + 1):
        began = time.perf_counter()
        found = call(QUESTIONS[n % len(QUESTIONS)])
        whole = time.perf_counter() - began
        measured.append((whole, sum(found.seconds.get(stage, 0.0) for stage in STAGES)))
    return measured[1:]


def measure(env: Any, times: int) -> None:
    from deployments.cli.session import open_session

    session = open_session(env, saves=True)
    from flows.ask import ask
    from flows.prefect_runs import without_heartbeat
    from tasks.answers.answer import answer
    from tasks.pipelines import load_pipeline

    block = load_pipeline(session.pipeline)

    def plain(question: str) -> Any:
        return answer(block, question, block.settings)

    def flow(question: str) -> Any:
        return ask(question, session.pipeline, block.settings)

    seconds = {"plain function": timed(plain, times)}
    with without_heartbeat():
        seconds["flow"] = timed(flow, times)
    seconds["flow with heartbeats"] = timed(flow, times)
    print(f"{'':<22} {'call':>8} {'stages':>8} {'beside':>8}   ms ({', '.join(STAGES)})")
    for way, measured in seconds.items():
        whole, stages, beside = (
            1000 * statistics.median(one) for one in zip(*((w, s, w - s) for w, s in measured), strict=True)
        )
        print(f"{way:<22} {whole:8.0f} {stages:8.0f} {beside:8.0f}")


if __name__ == "__main__":
    main()
