"""Find the chunks that are relevant to a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import task

from tasks.embedding.reranker import load_reranker, reranked
from tasks.errors import MisuseError
from tasks.milvus.search import FUSED
from tasks.models import Hit
from tasks.retrieval.ranking import fuse, without_copies
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blocks.settings import SearchMode, Settings
    from tasks.embedding.model import EmbeddingModel
    from tasks.milvus.store import Store

DEEPEST = 16_384
"""Milvus returns at most this many hits."""
SPARE = 3
"""Hits to fetch for each hit wanted, where near-copies are left out."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The hits of a search and their collection. ``best`` is the highest cosine of any chunk to the question."""

    collection: str
    hits: tuple[Hit, ...]
    best: float
    notes: tuple[str, ...] = ()


def possible(mode: SearchMode, bm25: bool, version: str) -> tuple[SearchMode, tuple[str, ...]]:
    """Return a search mode that the server supports, and a note if it is not the requested mode.

    Auto means hybrid if the server has BM25, else dense. Without BM25, hybrid falls back to dense. Raises
    ``MisuseError`` for lexical without BM25.
    """
    if mode == "auto":
        return ("hybrid" if bm25 else "dense"), ()
    if bm25 or mode == "dense":
        return mode, ()
    if mode == "lexical":
        raise MisuseError(
            f"mode lexical needs BM25. Milvus {version} has no BM25, Milvus 2.5 has. Use --mode dense, or upgrade."
        )
    return "dense", (f"Milvus {version} has no BM25, so the search was dense only",)


def find(
    store: Store,
    collection: str,
    question: str,
    vector: NDArray[np.float32],
    settings: Settings,
    where: str = "",
    *,
    copies: bool = True,
) -> Retrieved:
    """Do as :func:`find_all` for one question."""
    return find_all(store, collection, [question], [vector], settings, where, copies=copies)[0]


def find_all(
    store: Store,
    collection: str,
    questions: Sequence[str],
    vectors: Sequence[NDArray[np.float32]],
    settings: Settings,
    where: str = "",
    *,
    copies: bool = True,
) -> list[Retrieved]:
    """Search a generation for questions, in one call, whose unit vectors are ``vectors``, shape (dimension,) each.

    ``where``, a Milvus expression, limits the chunks. Without ``copies``, near-copies of better hits are left out.
    Raises ``PartError`` when the reranking model does not load.
    """
    mode, notes = possible(settings.mode, store.capabilities.bm25, store.capabilities.version)
    score = load_reranker(settings.rerank_model) if settings.rerank_model else None
    depth = max(settings.top_k * (1 if copies else SPARE), settings.rerank_depth if score else 0)

    def look(mode: SearchMode, top_k: int) -> list[list[Hit]]:
        chosen = settings.model_copy(update={"mode": mode, "top_k": min(top_k, DEEPEST)})
        return store.search(collection, questions, vectors, chosen, where)

    if mode == "hybrid" and settings.fusion == "scores":
        both = max(depth, FUSED * settings.top_k)
        near = look("dense", both)
        pairs = zip(near, look("lexical", both), strict=True)
        found = [fuse(by_meaning, by_words, settings.dense_share) for by_meaning, by_words in pairs]
    else:
        found = look(mode, depth)
        # ``best`` has to be a cosine: BM25 scores and fused ranks have no absolute meaning.
        near = found if mode == "dense" else look("dense", 1)

    def chosen(question: str, hits: list[Hit]) -> tuple[Hit, ...]:
        if score:
            hits = reranked(question, hits, score, settings.rerank_depth)
        if not copies:
            hits = without_copies(hits[: SPARE * settings.top_k], settings.near_copies)
        return tuple(hits[: settings.top_k])

    return [
        Retrieved(collection, chosen(question, hits), nearest[0].score if nearest else -1.0, notes)
        for question, hits, nearest in zip(questions, found, near, strict=True)
    ]


@task(name="embed question", **RETRIED)
def embed_question(model: EmbeddingModel, question: str) -> NDArray[np.float32]:
    """Return the question's unit vector, shape (dimension,)."""
    return model.encode_question(question)


@task(name="search", **RETRIED)
def retrieve(
    store: Store, collection: str, question: str, vector: NDArray[np.float32], settings: Settings, where: str = ""
) -> Retrieved:
    """Search a generation for the chunks of an answer. Transient errors of Milvus are retried."""
    return find(store, collection, question, vector, settings, where, copies=False)
