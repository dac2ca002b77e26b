"""Find the chunks that a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import task

from tasks.errors import MisuseError, PartError
from tasks.models import Hit
from tasks.retries import RETRIED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blocks.settings import SearchMode, Settings
    from tasks.embed import EmbeddingModel
    from tasks.store import Store


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found, in which collection. ``best`` is the highest cosine of any chunk to the question."""

    collection: str
    hits: tuple[Hit, ...]
    best: float
    notes: tuple[str, ...] = ()


def resolve(store: Store) -> str:
    """Return the collection behind the alias: once a question, so that one answer comes from one generation.

    Raises ``PartError`` before the first sync.
    """
    collection = store.live()
    if collection is None:
        raise PartError(
            f"Milvus: {store.block.uri} has no '{store.alias}' yet. Run `lockstep sync`, or check COLLECTION_NAME."
        )
    return collection


def possible(mode: SearchMode, bm25: bool, version: str) -> tuple[SearchMode, tuple[str, ...]]:
    """Return the mode that the server can do, and a note when it is not the one asked for.

    Hybrid falls back to dense, which is half of it. Raises ``MisuseError`` for lexical without BM25.
    """
    if bm25 or mode == "dense":
        return mode, ()
    if mode == "lexical":
        raise MisuseError(f"mode lexical needs BM25, which Milvus {version} has not (2.5 has). Use --mode dense.")
    return "dense", (f"Milvus {version} has no BM25: searched dense only",)


def find(store: Store, question: str, vector: NDArray[np.float32], settings: Settings) -> Retrieved:
    """Search the live generation for a question whose unit vector is ``vector``, shape (dimension,)."""
    mode, notes = possible(settings.mode, store.abilities.bm25, store.abilities.version)
    collection = resolve(store)
    hits = store.search(collection, question, vector, settings.top_k, mode)
    # Only a cosine says how near the nearest is: BM25 and fused ranks have no absolute meaning.
    nearest = hits[:1] if mode == "dense" else store.search(collection, question, vector, 1, "dense")
    best = nearest[0].score if nearest else -1.0
    return Retrieved(collection, tuple(hits), best, notes)


@task(name="embed question", **RETRIED)
def embed_question(model: EmbeddingModel, question: str) -> NDArray[np.float32]:
    """Return the question's unit vector, shape (dimension,)."""
    return model.encode_question(question)


@task(name="search", **RETRIED)
def retrieve(store: Store, question: str, vector: NDArray[np.float32], settings: Settings) -> Retrieved:
    """Search the live generation; transient errors of Milvus are retried."""
    return find(store, question, vector, settings)
