"""What was found, and an answer, as JSON: the same from the command and from the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from tasks.models import Answer, Citation, Claim, Hit

CITATION_KEYS = ("n", "key", "heading", "page", "quote", "verified", "version", "span", "chunk_id")
HIT_KEYS = ("key", "chunk_id", "score", "text", "heading", "page")
ANSWER_KEYS = ("answer", "mode", "collection", "flow_run_id", "seconds", "tokens", "claims", "cached")


UrlOf = Callable[[str, "tuple[int, int] | None"], str]
"""Writes the link to a chunk and to a quote in it. The command has none: its JSON holds no links."""


def hits_json(
    collection: str, hits: Sequence[Hit], seconds: dict[str, float], url_of: UrlOf | None = None
) -> dict[str, Any]:
    """Return what was found as `lockstep search --json` prints it; with ``url_of`` each hit has its link."""
    found = [
        {key: getattr(hit, key) for key in HIT_KEYS}
        | mark(hit.outdated)
        | ({"url": url_of(hit.chunk_id, None)} if url_of else {})
        for hit in hits
    ]
    return {"collection": collection, "hits": found, "seconds": seconds}


def answer_json(answer: Answer, url_of: UrlOf | None = None) -> dict[str, Any]:
    """Return an answer as `lockstep ask --json` prints it; with ``url_of`` each citation has its link."""
    whole = asdict(answer)
    return {
        **{key: whole[key] for key in ANSWER_KEYS},
        "citations": [citation_json(one, url_of) for one in whole["citations"]],
        "notes": list(answer.notes),
    }


def citation_json(citation: dict[str, Any], url_of: UrlOf | None = None) -> dict[str, Any]:
    """Return a citation, given as a dict, as it stands in an answer's JSON."""
    url = {"url": url_of(citation["chunk_id"], citation["span"])} if url_of else {}
    return {key: citation[key] for key in CITATION_KEYS} | mark(citation["outdated"]) | url


def hit_of(shown: dict[str, Any]) -> Hit:
    """Return a chunk that was told in JSON."""
    return Hit(**{key: shown[key] for key in HIT_KEYS}, outdated=shown.get("outdated", False))


def answer_of(question: str, shown: dict[str, Any]) -> Answer:
    """Return an answer that was told in JSON, without its passages."""
    citations = [citation_of(one) for one in shown["citations"]]
    claims = [Claim(one["text"], tuple(one["citations"]), one["verified"]) for one in shown["claims"]]
    told = {key: shown[key] for key in ANSWER_KEYS} | {"claims": tuple(claims), "citations": tuple(citations)}
    return Answer(question=question, notes=tuple(shown["notes"]), **told)


def citation_of(shown: dict[str, Any]) -> Citation:
    """Return a citation that was told in JSON, without its link."""
    span = tuple(shown["span"]) if shown["span"] else None
    return Citation(**{key: shown[key] for key in CITATION_KEYS} | mark(shown.get("outdated", False)) | {"span": span})


def mark(outdated: bool) -> dict[str, bool]:
    """Return what marks a chunk of an older version; nothing else has the mark."""
    return {"outdated": True} if outdated else {}
