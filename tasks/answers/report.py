"""Write the report of an answer for the Prefect UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.text.markdown import Markdown, inline, plain, table

if TYPE_CHECKING:
    from tasks.models import Answer

TEXT_SHOWN = 160


def answer_markdown(answer: Answer, links: dict[str, str]) -> str:
    """Return an answer's report: question, answer, citations with links and checks, passages, timings, tokens."""
    cached = " · from the answer cache" if answer.cached else ""
    parts = [
        f"# {inline(answer.question)}",
        plain(answer.answer),
        f"*mode: {answer.mode} · from {inline(answer.collection)}{cached}*",
    ]
    if answer.citations:
        rows = [
            [
                c.n,
                "yes" if c.verified else "NO: not found there, or too short",
                Markdown(f"[{inline(c.key)}]({links.get(c.key, '')})" + " (an older version)" * c.outdated),
                c.heading,
                c.page or "",
                c.quote,
            ]
            for c in answer.citations
        ]
        parts += ["## Citations", table(["", "verified", "object", "heading", "page", "quote"], rows)]
    parts += [f"> {inline(note)}" for note in answer.notes]
    if answer.claims:
        claims = [[_verdict(one.verified), ", ".join(map(str, one.citations)), one.text] for one in answer.claims]
        parts += ["## Claims", table(["verified", "citations", "claim"], claims)]
    if answer.passages:
        found = [
            [n, f"{hit.score:.3f}", hit.key, hit.heading, _start(hit.text)] for n, hit in enumerate(answer.passages, 1)
        ]
        parts += ["## Passages found", table(["", "score", "object", "heading", "text"], found)]
    timings = [[stage, f"{seconds:.3f}"] for stage, seconds in answer.seconds.items()]
    parts += ["## Seconds", table(["stage", "seconds"], timings)]
    if answer.tokens:
        parts += ["## Tokens", table(["", "tokens"], list(answer.tokens.items()))]
    return "\n\n".join(parts)


def _verdict(verified: bool) -> str:
    return "yes" if verified else "NO"


def _start(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}…"
