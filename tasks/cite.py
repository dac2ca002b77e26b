"""Check what a model's answer cites, and find the words that each citation rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prefect import task

from tasks.generate import Reply
from tasks.models import Citation, Hit
from tasks.prompt import ABSTAIN
from tasks.retries import ONCE
from tasks.sentences import sentences

MARK = re.compile(r"\s?\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
WORD = re.compile(r"\w+")


def cited_numbers(answer: str) -> list[int]:
    """Return the numbers cited, each once, in order: '[2] … [1, 3]' → 2, 1, 3."""
    numbers = (int(n) for marks in MARK.findall(answer) for n in marks.split(","))
    return list(dict.fromkeys(numbers))


def without_unknown(answer: str, known: int) -> str:
    """Return the answer without citations of passages that do not exist (numbers over ``known``, and 0)."""

    def keep(match: re.Match[str]) -> str:
        numbers = [n for n in (int(part) for part in match[1].split(",")) if 1 <= n <= known]
        return "".join(f" [{n}]" for n in numbers)

    return MARK.sub(keep, answer).strip()


def claim_of(answer: str, n: int) -> str:
    """Return the sentences of an answer that cite passage ``n``, as one text."""
    return " ".join(part for part in re.split(r"(?<=[\].!?])\s+(?!\[)", answer) if n in cited_numbers(part))


def supporting_quote(claim: str, passage: str) -> str:
    """Return the sentence of the passage, verbatim, that shares most of its words with the claim."""
    words = set(WORD.findall(MARK.sub("", claim).lower()))

    def shared(sentence: str) -> float:
        own = set(WORD.findall(sentence.lower()))
        return len(words & own) / (len(own) ** 0.5 or 1.0)

    return max(sentences(passage) or [passage.strip()], key=shared)


def check(answer: str, passages: Sequence[Hit]) -> tuple[str, tuple[Citation, ...]]:
    """Return the answer with only the citations that exist, and those citations with a quote each."""
    kept = without_unknown(answer, len(passages))
    return kept, tuple(
        Citation(
            n, hit.key, hit.heading, hit.page, supporting_quote(claim_of(kept, n), hit.text), hit.chunk_id, hit.outdated
        )
        for n in cited_numbers(kept)
        for hit in (passages[n - 1],)
    )


def abstains(answer: str) -> bool:
    """Say whether the model answered that the passages do not hold the answer."""
    return not answer or answer.strip().strip('"').lower().startswith(ABSTAIN.rstrip(".").lower())


@task(name="check citations", **ONCE)
def cite(reply: Reply) -> tuple[str, tuple[Citation, ...]]:
    """Check the citations of a model's reply."""
    return check(reply.text, reply.prompt.passages)
