"""Search a collection: by meaning, by words, or by both with Milvus fusing the results."""

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
"""The length of the lists to fuse, as a multiple of the number of hits asked for."""
BY_WORDS: dict[str, Any] = {"metric_type": "BM25", "params": {}}


@dataclass(frozen=True, slots=True)
class Query:
    """A search: a question, its unit vector of shape (dimension,), and the settings with the number of hits.

    ``where`` is a Milvus expression that selects the chunks to search. Empty means all.
    """

    question: str
    vector: NDArray[np.float32]
    settings: Settings
    where: str = ""

    @property
    def words(self) -> str:
        """The words that BM25 searches for, or '' if the question has none."""
        return " ".join(words(self.question))

    def near(self, limit: int) -> dict[str, Any]:
        """Return the parameters for a vector search for ``limit`` chunks."""
        return {"metric_type": "COSINE", "params": search_params(self.settings, limit)}


def dense(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with the nearest vectors, best first. ``distance`` is the cosine similarity."""
    limit = query.settings.top_k
    found = client.search(
        collection, [query.vector], anns_field="embedding", search_params=query.near(limit), limit=limit,
        filter=query.where, output_fields=OUTPUT, **options,
    )  # fmt: skip
    return list(found[0])


def lexical(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with the best BM25 scores for the question's words, best first. ``distance`` is the score."""
    if not query.words:
        return []
    found = client.search(
        collection, [query.words], anns_field="sparse", search_params=BY_WORDS, limit=query.settings.top_k,
        filter=query.where, output_fields=OUTPUT, **options,
    )  # fmt: skip
    # Milvus Lite returns negative scores.
    return [{"id": row["id"], "entity": row["entity"], "distance": abs(row["distance"])} for row in found[0]]


def hybrid(client: MilvusClient, collection: str, query: Query, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that rank high in both lists, best first. ``distance`` is the sum of their reciprocal ranks."""
    from pymilvus import AnnSearchRequest, RRFRanker

    limit, where = query.settings.top_k, query.where or None
    depth = FUSED * limit
    both = [AnnSearchRequest([query.vector], "embedding", query.near(depth), depth, expr=where)]
    if query.words:
        both.append(AnnSearchRequest([query.words], "sparse", BY_WORDS, depth, expr=where))
    found = client.hybrid_search(collection, both, RRFRanker(), limit=limit, output_fields=OUTPUT, **options)
    return list(found[0])


SEARCHES: dict[str, Callable[..., list[dict[str, Any]]]] = {"dense": dense, "lexical": lexical, "hybrid": hybrid}
