"""Does a chat model answer better in two stages, or with the best passage last? Tells by a server of yours.

    VLLM_BASE_URL=http://vllm:8000/v1 python -m benchmarks.answers [FOLDER] [GOLDEN]

Default: the project's own docs, and the golden questions on them. Starts a stack of its own in a temporary home, syncs
FOLDER, and asks each question in each way. Prints a table in Markdown: answers and abstentions, how many claims have
a quote that stands in its passage, how many answers cite an object that is known to answer the question, how much of
the known answer was said (of its words, stemmed and without stop words; the mean, and its 95% interval), and the median
tokens and seconds. Unanswerable questions are counted apart: the fewer answers the better. What was said is measured
against what the first way said as well, question by question.
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
    "known answer said", "more than the first way", "tokens in", "tokens out", "seconds",
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
    from deployments.cli.session import open_session

    session = open_session(env, saves=True)
    from tasks.answers.answer import answer
    from tasks.errors import LockstepError
    from tasks.evaluation.golden import parse_golden
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
    first: list[float] = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for name, way in WAYS.items():
        with ThreadPoolExecutor(THREADS) as threads:
            answers = list(threads.map(lambda one, way=way: ask(one.question, way), golden))
        for reason in sorted({str(found) for found in answers if isinstance(found, Exception)}):
            print(f"{name}: {reason}", file=sys.stderr)
        told = [said(one, found) for one, found in zip(golden, answers, strict=True) if one.relevant and one.answer]
        first = first or told
        print("| " + " | ".join([name, *row(golden, answers, told, first)]) + " |", flush=True)


def said(one: Any, found: Any) -> float:
    """Return the share of the known answer's words that are in what was answered; 0 where nothing was."""
    from tasks.text.words import words

    if getattr(found, "mode", "") != "generated":
        return 0.0
    known = set(words(one.answer))
    return len(known & set(words(found.answer))) / len(known)


def between(values: Sequence[float]) -> str:
    """Return the mean and its interval."""
    from tasks.evaluation.compare import interval

    found = interval(values)
    return f"{found.difference:.3f} ({found.low:.3f} to {found.high:.3f})"


def row(golden: Sequence[Any], answers: Sequence[Any], told: Sequence[float], first: Sequence[float]) -> list[str]:
    """Return the figures of one way: ``answers`` to the questions, or the errors in their places.

    ``told`` is what they said of the known answers, ``first`` what the first way's did.
    """
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
        between(told) if told else "",
        between([one - other for one, other in zip(told, first, strict=True)]) if told else "",
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
