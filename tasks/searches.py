"""The three ways to search a collection: by meaning, by words, by both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.indexes import search_params

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from blocks.settings import Settings

OUTPUT = ["key", "text", "heading", "page", "text_hash"]
DEPTH = 4
"""Hybrid search fuses lists this many times as long as what is asked for."""


def run(
    client: MilvusClient, collection: str, question: str, vector: NDArray[np.float32], settings: Settings,
    options: dict[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the raw hits, best first. ``distance`` is the cosine, the BM25 score, or the fused rank score."""
    mode, top_k = settings.mode, settings.top_k
    depth = top_k if mode == "dense" else DEPTH * top_k
    near = {"metric_type": "COSINE", "params": search_params(settings, depth)}
    words = {"metric_type": "BM25", "params": {}}
    common = {"output_fields": OUTPUT, **options}
    if mode == "dense":
        found = client.search(
            collection, data=[vector], anns_field="embedding", limit=top_k, search_params=near, **common
        )
    elif mode == "lexical":
        found = client.search(
            collection, data=[question], anns_field="sparse", limit=top_k, search_params=words, **common
        )
    else:
        from pymilvus import AnnSearchRequest, RRFRanker

        both = [
            AnnSearchRequest([vector], "embedding", near, depth),
            AnnSearchRequest([question], "sparse", words, depth),
        ]
        found = client.hybrid_search(collection, both, RRFRanker(), limit=top_k, **common)
    return list(found[0])
