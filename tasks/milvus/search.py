"""Search a collection: by meaning, by words, or by both with Milvus fusing the results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.milvus.index_types import search_params
from tasks.models import Hit
from tasks.text.words import words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from blocks.settings import Settings

    Rows = list[dict[str, Any]]

OUTPUT = ["key", "text", "heading", "page", "text_hash", "chunk_index", "etag"]
FUSED = 4
"""The length of the lists to fuse, as a multiple of the number of hits asked for."""
BY_WORDS: dict[str, Any] = {"metric_type": "BM25", "params": {}}


@dataclass(frozen=True, slots=True)
class Queries:
    """Searches that go in one call: questions, their unit vectors of shape (dimension,), and the settings of all.

    ``where`` is a Milvus expression that selects the chunks to search. Empty means all.
    """

    questions: Sequence[str]
    vectors: Sequence[NDArray[np.float32]]
    settings: Settings
    where: str = ""

    @property
    def words(self) -> list[str]:
        """The words that BM25 searches for, for each question; '' for a question that has none."""
        return [" ".join(words(question)) for question in self.questions]

    def near(self, limit: int) -> dict[str, Any]:
        """Return the parameters for a vector search for ``limit`` chunks."""
        return {"metric_type": "COSINE", "params": search_params(self.settings, limit)}


def dense(client: MilvusClient, collection: str, asked: Queries, options: dict[str, Any]) -> list[Rows]:
    """Return the rows with the nearest vectors, best first. ``distance`` is the cosine similarity."""
    limit = asked.settings.top_k
    found = client.search(
        collection, list(asked.vectors), anns_field="embedding", search_params=asked.near(limit), limit=limit,
        filter=asked.where, output_fields=OUTPUT, **options,
    )  # fmt: skip
    return [list(rows) for rows in found]


def lexical(client: MilvusClient, collection: str, asked: Queries, options: dict[str, Any]) -> list[Rows]:
    """Return the rows with the best BM25 scores for the question's words, best first. ``distance`` is the score."""

    def search(some: list[int]) -> list[Rows]:
        found = client.search(
            collection, [asked.words[one] for one in some], anns_field="sparse", search_params=BY_WORDS,
            limit=asked.settings.top_k, filter=asked.where, output_fields=OUTPUT, **options,
        )  # fmt: skip
        # Milvus Lite returns negative scores.
        return [
            [{"id": row["id"], "entity": row["entity"], "distance": abs(row["distance"])} for row in rows]
            for rows in found
        ]

    return _by_words(asked, search, lambda some: [[] for _ in some])


def hybrid(client: MilvusClient, collection: str, asked: Queries, options: dict[str, Any]) -> list[Rows]:
    """Return the rows that rank high in both lists, best first. ``distance`` is the sum of their reciprocal ranks."""
    from pymilvus import AnnSearchRequest, RRFRanker

    limit, where = asked.settings.top_k, asked.where or None
    depth = FUSED * limit

    # Both lists need a query for each question: "sub search request nq should be the same" (Milvus issue 39190).
    def fused(some: list[int], *, both: bool) -> list[Rows]:
        near = AnnSearchRequest([asked.vectors[one] for one in some], "embedding", asked.near(depth), depth, expr=where)
        lists = [near]
        if both:
            lists.append(AnnSearchRequest([asked.words[one] for one in some], "sparse", BY_WORDS, depth, expr=where))
        found = client.hybrid_search(collection, lists, RRFRanker(), limit=limit, output_fields=OUTPUT, **options)
        return [list(rows) for rows in found]

    return _by_words(asked, partial(fused, both=True), partial(fused, both=False))


def _by_words(
    asked: Queries, with_words: Callable[[list[int]], list[Rows]], without: Callable[[list[int]], list[Rows]]
) -> list[Rows]:
    """Return the rows of each question: those that have words for BM25 are searched together, and so are the others.

    Both functions get the positions of their questions.
    """
    found: dict[int, Rows] = {}
    said = asked.words
    for search, some in ((with_words, [at for at, one in enumerate(said) if one]),
                         (without, [at for at, one in enumerate(said) if not one])):  # fmt: skip
        if some:
            found.update(zip(some, search(some), strict=True))
    return [found[at] for at in range(len(said))]


SEARCHES: dict[str, Callable[..., list[Rows]]] = {"dense": dense, "lexical": lexical, "hybrid": hybrid}


def as_hit(row: Mapping[str, Any]) -> Hit:
    """Convert a row that Milvus found to a hit."""
    of_it = row["entity"]
    return Hit(
        chunk_id=row["id"],
        score=round(float(row["distance"]), 6),
        page=of_it["page"] or None,
        **{name: of_it[name] for name in ("key", "text", "heading", "text_hash", "chunk_index", "etag")},
    )
