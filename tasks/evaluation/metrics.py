"""Measure the quality of rankings with the metrics of information retrieval (library ir-measures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DEPTH = 10
"""Number of distinct objects of each ranking that count."""
NAMES = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "mrr": "RR", "ndcg@10": "nDCG@10"}
"""Our name of each measure, and ir-measures' name."""


def measures(ranked: Sequence[Sequence[str]], relevant: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Return the measures of each ranking of keys, best first. Each needs at least one relevant key."""
    import ir_measures

    wanted = {ir_measures.parse_measure(theirs): ours for ours, theirs in NAMES.items()}
    judged = [ir_measures.Qrel(str(n), key, 1) for n, keys in enumerate(relevant) for key in keys]
    scored = [
        ir_measures.ScoredDoc(str(n), key, float(DEPTH - place))
        for n, keys in enumerate(ranked)
        for place, key in enumerate(keys[:DEPTH])
    ]
    # The library ignores empty rankings. Their measures are 0.
    found = [dict.fromkeys(NAMES, 0.0) for _ in ranked]
    for one in ir_measures.iter_calc(list(wanted), judged, scored):
        found[int(one.query_id)][wanted[one.measure]] = float(one.value)
    return found


def mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each measure over all questions; 0 without questions."""
    return {name: sum(one[name] for one in each) / max(len(each), 1) for name in NAMES}


def rank(ranked: Sequence[str], relevant: Sequence[str]) -> int | None:
    """Return the rank of the first relevant key, from 1, or None if no relevant key was found."""
    return next((place for place, key in enumerate(ranked, start=1) if key in relevant), None)
