"""Search a collection: dense, lexical (BM25), or hybrid with Milvus fusing both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.milvus.index_types import search_params
from tasks.text.words import words

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from blocks.settings import Settings

OUTPUT = ["key", "text", "heading", "page", "text_hash", "chunk_index", "etag"]
FUSED = 4
"""Lists are fused that are this many times as long as what is asked for."""
BY_WORDS: dict[str, Any] = {"metric_type": "BM25", "params": {}}


@dataclass(frozen=True, slots=True)
class Query:
    """What a collection is searched for: a question, its unit vector of shape (dimension,), and how many chunks.

    ``where``, an expression of Milvus, says among which; empty for all.
    """

    question: str
    vector: NDArray[np.float32]
    settings: Settings
    where: str = ""

    @property
    def words(self) -> str:
        """The words that BM25 looks for; empty when the question has none."""
        return " ".join(words(self.question))

    def near(self, limit: int) -> dict[str, Any]:
        """Return how the vector index is searched for so many chunks."""
        return {"metric_type": "COSINE", "params": search_params(self.settings, limit)}


def dense(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows whose vectors are nearest, best first; ``distance`` is the cosine."""
    limit = query.settings.top_k
    found = client.search(
        collection, [query.vector], anns_field="embedding", search_params=query.near(limit), limit=limit,
        filter=query.where, output_fields=OUTPUT, **options,
    )  # fmt: skip
    return list(found[0])


def lexical(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with most of the question's words, and the rarest; ``distance`` is their BM25 score."""
    if not query.words:
        return []
    found = client.search(
        collection, [query.words], anns_field="sparse", search_params=BY_WORDS, limit=query.settings.top_k,
        filter=query.where, output_fields=OUTPUT, **options,
    )  # fmt: skip
    # Milvus Lite says them below zero.
    return [{"id": row["id"], "entity": row["entity"], "distance": abs(row["distance"])} for row in found[0]]


def hybrid(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that stand high in both lists; ``distance`` is the sum of their reciprocal ranks."""
    from pymilvus import AnnSearchRequest, RRFRanker

    limit, where = query.settings.top_k, query.where or None
    depth = FUSED * limit
    both = [AnnSearchRequest([query.vector], "embedding", query.near(depth), depth, expr=where)]
    if query.words:
        both.append(AnnSearchRequest([query.words], "sparse", BY_WORDS, depth, expr=where))
    found = client.hybrid_search(collection, both, RRFRanker(), limit=limit, output_fields=OUTPUT, **options)
    return list(found[0])


SEARCHES: dict[str, Callable[..., list[dict[str, Any]]]] = {"dense": dense, "lexical": lexical, "hybrid": hybrid}
