"""Rerank hits with a cross-encoder, which reads question and chunk together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.embedding.model import loading
from tasks.errors import PartError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from tasks.models import Hit

BATCH = 16

Score = Callable[[str, Sequence[str]], Sequence[float]]
"""A function that scores how well each text answers a question. Higher is better."""

_loaded: dict[str, CrossEncoder] = {}
_forward = ThreadPoolExecutor(1, thread_name_prefix="rerank")
"""One thread for all, because each thread that calls torch gets its own pool of workers and its own buffers."""


def load_reranker(name: str) -> Score:
    """Return the score function of a cross-encoder, which is loaded once a process.

    ``name`` is a name on the Hugging Face Hub, or a folder. Raises ``PartError`` if the model does not load, or gives
    more than one score a text.
    """
    if name not in _loaded:
        with loading:
            if name not in _loaded:
                _loaded[name] = _load(name)
    model = _loaded[name]

    def scores(question: str, texts: Sequence[str]) -> list[float]:
        found = _forward.submit(
            model.predict,
            [(question, text) for text in texts],
            batch_size=BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return [float(one) for one in found.result()]

    return scores


def _load(name: str) -> CrossEncoder:
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(name)
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise PartError(
            f"Reranker: the model '{name}' does not load: {why}. Check LOCKSTEP_RERANK_MODEL. It is a cross-encoder on "
            "the Hugging Face Hub (which must be reachable) or a folder; empty for none."
        ) from error
    if model.num_labels != 1:
        raise PartError(
            f"Reranker: the model '{name}' is a classifier with {model.num_labels} labels and gives no score. Set "
            "LOCKSTEP_RERANK_MODEL to a cross-encoder made for ranking, such as cross-encoder/ms-marco-MiniLM-L6-v2."
        )
    return model


def reranked(question: str, hits: Sequence[Hit], score: Score, depth: int) -> list[Hit]:
    """Return the hits with the first ``depth`` sorted by new scores, which replace the old ones.

    The others follow in their old order, with a score of 0.
    """
    read = list(hits[:depth])
    if not read:
        return []
    scores = score(question, [f"{hit.heading}\n{hit.text}" if hit.heading else hit.text for hit in read])
    pairs = sorted(zip(scores, read, strict=True), key=lambda pair: -pair[0])
    behind = [replace(hit, score=0.0) for hit in hits[depth:]]
    return [replace(hit, score=round(value, 6)) for value, hit in pairs] + behind
