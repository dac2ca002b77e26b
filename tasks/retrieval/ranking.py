"""Fuse dense and lexical hits, and remove near-copies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tasks.models import Hit


def fuse(dense: Sequence[Hit], lexical: Sequence[Hit], dense_share: float) -> list[Hit]:
    """Return the hits of two searches as one list, best first, with scores from 0 to 1.

    Cosines and BM25 scores have no common scale, so each score counts as a share of the best in its search. A chunk
    that one search did not find gets 0 from that search. ``dense_share`` is the weight of the cosine.
    """
    scores: dict[str, float] = {}
    found: dict[str, Hit] = {}
    for hits, weight in ((dense, dense_share), (lexical, 1.0 - dense_share)):
        best = hits[0].score if hits else 0.0
        for hit in hits:
            found.setdefault(hit.chunk_id, hit)
            share = max(hit.score, 0.0) / best if best > 0 else 0.0
            scores[hit.chunk_id] = scores.get(hit.chunk_id, 0.0) + weight * share
    return [replace(found[one], score=round(scores[one], 6)) for one in sorted(scores, key=lambda one: -scores[one])]


WORD = re.compile(r"\w+")
RUN = 3
"""Number of words in a run. Two texts are compared by the runs that they share."""


def runs(text: str) -> frozenset[tuple[str, ...]]:
    """Return each run of three words in a text, or all words of a shorter text."""
    words = WORD.findall(text.lower())
    return frozenset(tuple(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1)))


def without_copies(hits: Iterable[Hit], alike: float) -> list[Hit]:
    """Return the hits without near-copies of better hits. A near-copy shares ``alike`` of the runs or more.

    With ``alike`` 1 only hits with the same runs of words are removed.
    """
    kept: list[Hit] = []
    seen: list[frozenset[tuple[str, ...]]] = []
    for hit in hits:
        own = runs(hit.text)
        if all(len(own & other) < alike * len(own | other) for other in seen):
            kept.append(hit)
            seen.append(own)
    return kept
