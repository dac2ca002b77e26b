"""Two lists become one."""

from __future__ import annotations

from tasks.models import Hit
from tasks.retrieval.ranking import fuse


def hits(**scores: float) -> list[Hit]:
    return [Hit(name, f"{name}.md", score, name, "", None) for name, score in scores.items()]


def test_each_list_counts_as_a_share_of_its_best() -> None:
    found = fuse(hits(a=0.8, b=0.4), hits(b=20.0, c=10.0), 0.5)
    assert [(hit.chunk_id, hit.score) for hit in found] == [("b", 0.75), ("a", 0.5), ("c", 0.25)]


def test_the_weights_decide() -> None:
    dense, lexical = hits(a=0.8, b=0.4), hits(b=20.0, c=10.0)
    assert [hit.chunk_id for hit in fuse(dense, lexical, 1.0)] == ["a", "b", "c"]
    assert [hit.chunk_id for hit in fuse(dense, lexical, 0.0)] == ["b", "c", "a"]


def test_one_list_may_be_empty_or_worthless() -> None:
    assert [hit.chunk_id for hit in fuse(hits(a=0.8), [], 0.5)] == ["a"]
    assert [hit.chunk_id for hit in fuse([], hits(a=3.0), 0.5)] == ["a"]
    assert [hit.score for hit in fuse(hits(a=-0.1, b=-0.2), [], 0.5)] == [0.0, 0.0]
    assert fuse([], [], 0.5) == []
