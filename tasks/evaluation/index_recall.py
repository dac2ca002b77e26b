"""Measure a vector index: its recall against exact search, and its latency."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    import numpy as np
    from numpy.typing import NDArray

    from blocks.settings import Settings
    from tasks.milvus.store import Store

DEPTH = 10
FEWEST_SEARCHES = 50
SEARCHED_AT_ONCE = 50
TIE = 1e-4
"""Cosines that differ by less than this count as equal: copies of a text have the same vector."""


def sample(store: Store, collection: str, size: int, chance: random.Random) -> list[dict[str, Any]]:
    """Return a uniform random sample of chunks (id, key, embedding). Reads all ids once, in bounded memory."""
    chosen: list[dict[str, Any]] = []
    for number, row in enumerate(store.rows(collection, ["id", "key"])):
        if number < size:
            chosen.append(row)
        elif (place := chance.randrange(number + 1)) < size:
            chosen[place] = row
    vectors = store.vectors_of(collection, [row["id"] for row in chosen])
    return [{**row, "embedding": vectors[row["id"]]} for row in chosen if row["id"] in vectors]


def recall_at_10(store: Store, collection: str, vectors: Sequence[NDArray[np.float32]], settings: Settings) -> float:
    """Return the share of each vector's ten nearest chunks that a search of the index finds."""
    import numpy as np

    queries = unit(np.stack(vectors))
    least, depth = _tenth_best(queries, _vectors(store, collection))
    found = 0
    for start in range(0, len(queries), SEARCHED_AT_ONCE):
        some = queries[start : start + SEARCHED_AT_ONCE]
        ids = [[hit.chunk_id for hit in search(store, collection, query, settings)] for query in some]
        # One read for all of them, since each read waits for the server's next clock tick.
        held = store.vectors_of(collection, sorted({one for nearest in ids for one in nearest}))
        near = {one: unit(vector) for one, vector in held.items()}
        for query, bound, nearest in zip(some, least[start:], ids, strict=False):
            found += sum(float(query @ near[one]) >= float(bound) - TIE for one in nearest if one in near)
    return found / (len(queries) * depth) if depth else 1.0


def _tenth_best(queries: NDArray[np.float32], pages: Iterator[NDArray[np.float32]]) -> tuple[NDArray[np.float32], int]:
    """Return the cosine of the tenth nearest chunk to each query, and the depth: ten, or fewer if fewer exist."""
    import numpy as np

    best = np.empty((len(queries), 0), dtype=np.float32)
    for page in pages:
        both = np.concatenate([best, queries @ page.T], axis=1)
        best = -np.sort(-both, axis=1)[:, :DEPTH]
    return (best[:, -1], best.shape[1]) if best.shape[1] else (np.zeros(len(queries), np.float32), 0)


def _vectors(store: Store, collection: str) -> Iterator[NDArray[np.float32]]:
    import itertools

    import numpy as np

    rows = store.rows(collection, ["embedding"], at_once=1000)
    while piece := list(itertools.islice(rows, 1000)):
        yield unit(np.asarray([row["embedding"] for row in piece], dtype=np.float32))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors scaled to length one. Vectors computed in bfloat16 are off by some thousandths."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return unit


@dataclass(frozen=True, slots=True)
class Side:
    """A collection, vectors to search it for, and the settings of a search."""

    collection: str
    vectors: Sequence[NDArray[np.float32]]
    settings: Settings


def latencies(store: Store, one: Side, other: Side) -> tuple[list[float], list[float]]:
    """Search two collections in turns, each for its own vectors. Return the seconds of each search.

    Few vectors are searched for repeatedly.
    """
    measured: tuple[list[float], list[float]] = ([], [])
    for turn in range(max(FEWEST_SEARCHES, len(one.vectors), len(other.vectors))):
        for side, seconds in zip((one, other), measured, strict=True):
            if side.vectors:
                began = time.perf_counter()
                search(store, side.collection, side.vectors[turn % len(side.vectors)], side.settings)
                seconds.append(time.perf_counter() - began)
    return measured


def percentile(values: Sequence[float], percent: float) -> float:
    """Return an interpolated percentile."""
    import numpy as np

    return float(np.percentile(values, percent))


def search(store: Store, collection: str, vector: NDArray[np.float32], settings: Settings) -> list[Any]:
    """Return the nearest chunks to a vector, by meaning alone, as a question with these settings finds them."""
    near = settings.model_copy(update={"mode": "dense", "top_k": DEPTH})
    return list(store.search(collection, [""], [vector], near)[0])
