"""Join what was found by meaning with what was found by words."""

from __future__ import annotations

from collections.abc import Sequence
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
