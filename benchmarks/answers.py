"""Does a chat model answer better in two stages, or with the best passage last? Tells by a server of yours.

    VLLM_BASE_URL=http://vllm:8000/v1 python -m benchmarks.answers [FOLDER] [GOLDEN]

Default: the project's own docs, and the golden questions on them. Starts a stack of its own in a temporary home, syncs
FOLDER, and asks each question in each way. Prints a table in Markdown: answers and abstentions, how many claims have
a quote that stands in its passage, how many answers cite an object that is known to answer the question, and
the median tokens and seconds. Unanswerable questions are counted apart: the fewer answers the better.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.own_stack import ROOT, lockstep, own_stack
from benchmarks.swap import THREADS

WAYS: dict[str, dict[str, Any]] = {
    f"{name}, {order.replace('_', ' ')}": {"stages": stages, "passage_order": order}
    for stages, name in ((1, "one stage"), (2, "two stages"))
    for order in ("best_first", "best_last")
}
COLUMNS = (
    "way", "answered", "unanswerable answered", "failed", "claims verified", "relevant object cited",
    "tokens in", "tokens out", "seconds",
)  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    questions = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "golden.jsonl"
    if not os.environ.get("VLLM_BASE_URL"):
        sys.exit("Set VLLM_BASE_URL to a chat server, up to and with /v1.")
    with own_stack(folder) as (env, _):
        print(f"\n{folder}: {lockstep('sync')['chunks_embedded']} chunks")
        measure(env, questions)


def measure(env: Any, questions: Path) -> None:
    """Print a row a way."""
    from deployments.session import open_session

    session = open_session(env)
    from tasks.answer import answer
    from tasks.errors import LockstepError
    from tasks.golden import parse_golden
    from tasks.pipelines import load_pipeline

    block = load_pipeline(session.pipeline)
    golden = parse_golden(questions.read_text(), str(questions))

    def ask(question: str, way: dict[str, Any]) -> Any:
        own = {**way, "cache_seconds": 0.0, "fallback": "none"}
        try:
            return answer(block, question, block.settings.model_copy(update=own))
        except LockstepError as error:
            return error

    print(f"{len(golden)} questions to {block.chat_model.model or block.chat_model.base_url}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for name, way in WAYS.items():
        with ThreadPoolExecutor(THREADS) as threads:
            answers = list(threads.map(lambda one, way=way: ask(one.question, way), golden))
        print("| " + " | ".join([name, *row(golden, answers)]) + " |", flush=True)


def row(golden: Sequence[Any], answers: Sequence[Any]) -> list[str]:
    """Return the figures of one way: ``answers`` to the questions, or the errors in their places."""
    pairs = [(one, found) for one, found in zip(golden, answers, strict=True) if not isinstance(found, Exception)]
    answerable = [(one, found) for one, found in pairs if one.relevant]
    others = [found for one, found in pairs if not one.relevant]
    claims = [claim for _, found in pairs for claim in found.claims]
    cited = [
        any(citation.verified and citation.key in one.relevant for citation in found.citations)
        for one, found in answerable
    ]
    written = [found for _, found in pairs if found.tokens]
    return [
        share([found.mode == "generated" for _, found in answerable]),
        share([found.mode == "generated" for found in others]),
        str(len(answers) - len(pairs)),
        share([claim.verified for claim in claims]),
        share(cited),
        middle([found.tokens["prompt"] for found in written]),
        middle([found.tokens["completion"] for found in written]),
        middle([found.seconds["generate"] for found in written], 1),
    ]


def share(of: Sequence[bool]) -> str:
    """Return how many of how many."""
    return f"{sum(of)} of {len(of)}"


def middle(values: Sequence[float], digits: int = 0) -> str:
    """Return the median."""
    return f"{statistics.median(values):.{digits}f}" if values else ""


if __name__ == "__main__":
    main()
