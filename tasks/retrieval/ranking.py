"""Fuse dense and lexical hits into one ranking, and leave out near-copies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tasks.models import Hit


def fuse(dense: Sequence[Hit], lexical: Sequence[Hit], dense_share: float) -> list[Hit]:
    """Return the hits of two searches as one list, best first, with scores from 0 to 1.

    Cosines and BM25 scores have no common scale: each counts as a share of the best of its kind, and a chunk that
    one search did not find has nothing from it. ``dense_share`` is the weight of the cosine.
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
"""Texts are compared by the runs of so many words that they share."""


def runs(text: str) -> frozenset[tuple[str, ...]]:
    """Return what two texts are compared by: each run of three words, or all words of a shorter text."""
    words = WORD.findall(text.lower())
    return frozenset(tuple(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1)))


def without_copies(hits: Iterable[Hit], alike: float) -> list[Hit]:
    """Return the hits without those that say what a better one says: ``alike`` is the share of runs in common.

    With 1 only those go that have the same words.
    """
    kept: list[Hit] = []
    seen: list[frozenset[tuple[str, ...]]] = []
    for hit in hits:
        own = runs(hit.text)
        if all(len(own & other) < alike * len(own | other) for other in seen):
            kept.append(hit)
            seen.append(own)
    return kept
