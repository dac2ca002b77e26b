"""The embedding model, loaded once a process. It counts tokens and encodes texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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


SMALLEST = 1e-12
"""The least length that a vector is divided by. A model may return a zero vector."""


class EmbeddingModel:
    """A loaded model that counts tokens and encodes texts. Thread-safe.

    Forward passes run one at a time in one thread of their own. Each further thread that calls torch would get its own
    pool of workers and its own buffers.
    """

    def __init__(self, embedder: Embedder, model: SentenceTransformer) -> None:
        self.embedder = embedder
        self._model = model
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._together = Together(self._encode, self._forward)
        self.dimension: int = model.get_embedding_dimension()
        self.counter: TokenCounter = counter_for(model.tokenizer, model.max_seq_length, embedder.model_name)

    def encode(self, texts: Sequence[str], prompt: str = "") -> Vectors:
        """Return unit vectors, shape (texts, dimension), float32. Texts of similar length share a forward pass."""
        return self._forward.submit(self._encode, texts, prompt).result()

    def encode_questions(self, questions: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the unit vectors of questions, shape (dimension,) each. All that wait share a forward pass."""
        waiting = self._together.submit(questions, self.embedder.query_prompt)
        return [vector.result() for vector in waiting]

    def encode_question(self, question: str) -> NDArray[np.float32]:
        """Return the unit vector of a question, shape (dimension,)."""
        return self.encode_questions([question])[0]

    def _encode(self, texts: Sequence[str], prompt: str) -> Vectors:
        import numpy as np

        found = self._model.encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self.embedder.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        # The library would divide by the length in the model's own dtype: in bfloat16 that is off by 0.3%.
        vectors: Vectors = found.astype(np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SMALLEST)
        return vectors


_loaded: dict[str, EmbeddingModel] = {}


def load_model(embedder: Embedder) -> EmbeddingModel:
    """Return the embedder's model. It is loaded once a process, even if several pipelines use it.

    Raises ``PartError`` if it does not load: no such name, no network, not a sentence-transformers model.
    """
    dtype = resolve_dtype(embedder)
    fields = {
        field: getattr(embedder, field) for field in type(embedder).model_fields
    }  # without the name under which the block is saved
    name = json.dumps([embedder.location(), dtype, fields], default=str)
    if found := _loaded.get(name):
        return found  # without the lock, which may be held while another model loads
    with loading:
        if name not in _loaded:
            try:
                _loaded[name] = EmbeddingModel(embedder, embedder.get_client(dtype))
            except PartError:
                raise
            except Exception as error:
                why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                raise PartError(
                    f"Embedder: the model '{embedder.model_name}' does not load: {why}. Check EMBED_MODEL_NAME. It is "
                    "a name on the Hugging Face Hub (which must be reachable) or a folder."
                ) from error
        return _loaded[name]


loading = threading.Lock()
"""Held while a model is loaded. Meanwhile transformers sets the process' default dtype and replaces functions of torch.
Of two models loaded at once, one or both would get the other's dtype in part. They would fail, or embed wrongly for
good."""
