"""Get a vector for each chunk of a batch: from Milvus if it has the text, otherwise from the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.embedding.model import EmbeddingModel
from tasks.errors import LockstepError, PartError
from tasks.models import Chunk, ChunkedBatch, CutDocument, EmbeddedBatch, Failure, Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.models import Vectors

    Lookup = Callable[[Sequence[str]], Mapping[str, NDArray[np.float32]]]
    Write = Callable[[Piece], Mapping[str, str]]


def unknown(chunks: Sequence[Chunk], known: Mapping[str, object]) -> dict[str, str]:
    """Return the texts that have to be embedded, by hash, each once."""
    return {chunk.text_hash: chunk.embedded for chunk in chunks if chunk.text_hash not in known}


PLAIN_SENTENCE = "The weather is fine today."


PIECE = 1000
"""Chunks that are embedded before they are written. A run that dies loses the vectors of no more than these."""


def embed_batch(cut: ChunkedBatch, model: EmbeddingModel, lookup: Lookup, write: Write) -> EmbeddedBatch:
    """Embed a batch. Write all chunks but the last 1,000 at most, and return the batch with the vectors of those.

    ``lookup`` finds the vectors of texts that Milvus has. ``write`` writes a piece and returns why Milvus refused
    documents, by key. A document with a text that the model cannot embed has failed. The others go on.

    A batch of several pieces is processed twice. First the texts that are new to Milvus are written. They replace no
    rows, so the last good version stays whole if a later chunk fails. Then the rest replaces existing rows.
    """
    failed: dict[str, str] = {}
    written: set[str] = set()
    embedded, reused = write_new(cut, model, lookup, write, failed, written) if several(cut) else (0, 0)
    waiting = Piece((), vectors_of([], model))
    for some in pieces(cut, failed, written):
        if waiting.chunks:
            failed.update(write(waiting))
        waiting, new, reasons = embed_piece([one for one in some if one[0].ref.key not in failed], model, lookup)
        failed.update(reasons)
        embedded, reused = embedded + len(new), reused + max(len(waiting.chunks) - len(new), 0)
    waiting = waiting.without(failed)
    ids = frozenset(chunk.id for _, chunk in waiting.chunks)
    return EmbeddedBatch(without(cut, failed), waiting.vectors, embedded, reused, ids)


def write_new(
    cut: ChunkedBatch, model: EmbeddingModel, lookup: Lookup, write: Write, failed: dict[str, str], written: set[str]
) -> tuple[int, int]:
    """Embed and write the chunks whose texts Milvus does not have. Return how many texts, and how many repetitions.

    None of them replaces a row in Milvus, because that row would have the same text. Adds to ``failed`` why documents
    failed, by key, and to ``written`` the ids of the chunks.
    """
    embedded = repeated = 0
    for some in pieces(cut, failed, written):
        piece, new, reasons = embed_piece(some, model, lookup)
        failed.update(reasons)
        piece = piece.of(new)
        embedded, repeated = embedded + len(new), repeated + max(len(piece.chunks) - len(new), 0)
        if piece.chunks:
            failed.update(write(piece))
            written.update(chunk.id for _, chunk in piece.chunks)
    return embedded, repeated


def several(cut: ChunkedBatch) -> bool:
    """Return whether a batch has more than one piece."""
    return sum(len(document.chunks) for document in cut.documents) > PIECE


def pieces(
    cut: ChunkedBatch, failed: Collection[str] = (), written: Collection[str] = ()
) -> Iterator[list[tuple[CutDocument, Chunk]]]:
    """Yield the chunks of a batch with their documents, 1,000 at a time.

    Chunks of failed keys and chunks with written ids are left out. Both collections may grow during the iteration."""
    chunks = (
        (document, chunk)
        for document in cut.documents
        for chunk in document.chunks
        if document.ref.key not in failed and chunk.id not in written
    )
    while some := list(itertools.islice(chunks, PIECE)):
        yield some


def embed_piece(
    chunks: list[tuple[CutDocument, Chunk]], model: EmbeddingModel, lookup: Lookup
) -> tuple[Piece, set[str], dict[str, str]]:
    """Return the chunks with their vectors, the hashes of the embedded texts, and why documents failed, by key."""
    texts = unknown([chunk for _, chunk in chunks], {})
    known = dict(lookup(list(texts)))
    new = {text_hash: text for text_hash, text in texts.items() if text_hash not in known}
    reasons: dict[str, str] = {}
    failed: dict[str, str] = {}
    if new:
        vectors, reasons = encode_what_can(model, new)
        known.update(vectors)
    for document, chunk in chunks:
        if chunk.text_hash in reasons:
            why = f"the model cannot embed its chunk {chunk.index}: {reasons[chunk.text_hash]}"
            failed.setdefault(document.ref.key, why)
    left = [(document, chunk) for document, chunk in chunks if document.ref.key not in failed]
    found = vectors_of([known[chunk.text_hash] for _, chunk in left], model)
    return Piece(tuple(left), found), new.keys() - reasons.keys(), failed


def vectors_of(rows: list[NDArray[np.float32]], model: EmbeddingModel) -> Vectors:
    """Return the vectors as one float32 array of shape (rows, dimension)."""
    import numpy as np

    return np.asarray(rows, dtype=np.float32).reshape(len(rows), model.dimension)


def encode_what_can(
    model: EmbeddingModel, texts: Mapping[str, str]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Return the vectors of the texts by hash, and by hash why the others have none.

    A batch that fails is halved until the faulty text is alone. If no text can be embedded, nor a plain sentence, the
    model is at fault. Then ``PartError`` is raised.
    """
    vectors, reasons = _halved(model, dict(texts))
    if len(reasons) == len(texts) and _halved(model, {"": PLAIN_SENTENCE})[1]:
        raise PartError(
            f"Embedder: '{model.embedder.model_name}' can embed none of {len(texts)} texts: "
            f"{next(iter(reasons.values()))}. Try another dtype, or check EMBED_MODEL_NAME."
        )
    return vectors, reasons


def _halved(model: EmbeddingModel, texts: dict[str, str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    import numpy as np

    try:
        vectors = model.encode(list(texts.values()), model.embedder.document_prompt)
        if np.isfinite(vectors).all():
            return dict(zip(texts, vectors, strict=True)), {}
        why = "it returned values that are not numbers"
    except LockstepError:
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything; quarantine keeps this as the reason
        why = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    if len(texts) == 1:
        return {}, {next(iter(texts)): why}
    items, half = list(texts.items()), len(texts) // 2
    found = [_halved(model, dict(some)) for some in (items[:half], items[half:])]
    return found[0][0] | found[1][0], found[0][1] | found[1][1]


def without(cut: ChunkedBatch, failed: Mapping[str, str]) -> ChunkedBatch:
    """Return the batch without the failed documents. ``failed`` holds their reasons by key."""
    documents = tuple(document for document in cut.documents if document.ref.key not in failed)
    new = tuple(Failure(one.ref, failed[one.ref.key]) for one in cut.documents if one.ref.key in failed)
    return replace(cut, documents=documents, failures=(*cut.failures, *new)) if new else cut
