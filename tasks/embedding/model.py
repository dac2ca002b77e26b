"""The embedding model: loaded once a process, it counts tokens and encodes texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from tasks.embedding.dtype import resolve_dtype
from tasks.embedding.together import Together
from tasks.embedding.tokenizer import TokenCounter, counter_for
from tasks.errors import PartError
from tasks.models import Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    from blocks.embedder import Embedder
    from tasks.models import Vectors

    Lookup = Callable[[Sequence[str]], Mapping[str, NDArray[np.float32]]]
    Write = Callable[[Piece], Mapping[str, str]]


class EmbeddingModel:
    """A loaded model: counts tokens and encodes texts. Safe to use from any thread.

    Forward passes run in one thread of their own, one at a time: each further thread that calls torch
    would get its own pool of workers and its own buffers.
    """

    def __init__(self, embedder: Embedder, model: SentenceTransformer) -> None:
        self.embedder = embedder
        self._model = model
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._together = Together(self._encode, self._forward)
        self.dimension: int = model.get_embedding_dimension()
        self.counter: TokenCounter = counter_for(model.tokenizer, model.max_seq_length, embedder.model_name)

    def encode(self, texts: Sequence[str], prompt: str = "") -> Vectors:
        """Return unit vectors, shape (texts, dimension), float32. Texts of like length share a forward pass."""
        return self._forward.submit(self._encode, texts, prompt).result()

    def begin_question(self, question: str, prompt: str) -> Future[NDArray[np.float32]]:
        """Return the unit vector of a question to be, shape (dimension,).

        Questions that wait at the same time share a forward pass.
        """
        return self._together.submit(question, prompt)

    def encode_question(self, question: str) -> NDArray[np.float32]:
        """Return the unit vector of a question, shape (dimension,)."""
        return self.begin_question(question, self.embedder.query_prompt).result()

    def _encode(self, texts: Sequence[str], prompt: str) -> Vectors:
        vectors: Vectors = self._model.encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self.embedder.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors


_loaded: dict[str, EmbeddingModel] = {}


def load_model(embedder: Embedder) -> EmbeddingModel:
    """Return the embedder's model, loaded once a process, also for several pipelines that have the same.

    Raises ``PartError`` when it does not load: no such name, no network, not a sentence-transformers model.
    """
    dtype = resolve_dtype(embedder)
    fields = {
        field: getattr(embedder, field) for field in type(embedder).model_fields
    }  # not under which name it is saved
    name = json.dumps([embedder.location(), dtype, fields], default=str)
    if found := _loaded.get(name):
        return found  # while another may be loading, or trying to
    with loading:
        if name not in _loaded:
            try:
                _loaded[name] = EmbeddingModel(embedder, embedder.get_client(dtype))
            except PartError:
                raise
            except Exception as error:
                why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                raise PartError(
                    f"Embedder: the model '{embedder.model_name}' does not load: {why}. Check EMBED_MODEL_NAME: "
                    "a name on the Hugging Face Hub (which must be reachable) or a folder."
                ) from error
        return _loaded[name]


loading = threading.Lock()
"""Held while a model is loaded. transformers sets the process' default dtype, and replaces functions of torch, while it
does: of two models loaded at once, one or both have some of the other's dtype, and fail or embed otherwise for good."""
