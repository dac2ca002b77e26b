"""Convert chunks to rows of a generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.milvus.schema import NO_PAGE, WORDS_BYTES
from tasks.models import EmbeddedBatch, Piece
from tasks.pipelines import check_prefix
from tasks.text.words import words

if TYPE_CHECKING:
    from tasks.models import Chunk


@dataclass(frozen=True, slots=True)
class Columns:
    """The optional columns of a generation.

    ``words`` exists if the server has BM25. ``tenant`` exists if objects have tenants, read from the key after
    ``prefix``.
    """

    words: bool = False
    tenant: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        check_prefix(self.tenant, self.prefix)

    def of(self, chunk: Chunk) -> dict[str, str]:
        """Return a chunk's values for these columns."""
        found: dict[str, str] = {}
        if self.words:
            found["words"] = as_text(chunk)
        if self.tenant:
            found["tenant"] = tenant_of(chunk.key, self.prefix)
        return found


def as_text(chunk: Chunk) -> str:
    """Return the words for BM25 from a chunk's headings and text, separated by spaces.

    They are cut at the size that Milvus stores. A chunk of that size has every word that matters before the cut.
    """
    said = " ".join(words(f"{chunk.heading}\n{chunk.text}"))
    return said.encode()[:WORDS_BYTES].decode(errors="ignore")


def to_rows(
    batch: EmbeddedBatch | Piece, indexed_at: int, flow_run_id: str, columns: Columns
) -> Iterator[dict[str, Any]]:
    """Yield the chunks with their vectors as rows, in the schema's types. ``indexed_at`` is in ms since 1970."""
    piece = batch.last() if isinstance(batch, EmbeddedBatch) else batch
    for (document, chunk), vector in zip(piece.chunks, piece.vectors, strict=True):
        yield {
            "id": chunk.id,
            "embedding": vector,
            "text": chunk.text,
            "text_hash": chunk.text_hash,
            "key": chunk.key,
            "etag": document.ref.etag,
            "chunk_index": chunk.index,
            "heading": chunk.heading,
            "page": chunk.page or NO_PAGE,
            "last_modified": document.ref.last_modified,
            "indexed_at": indexed_at,
            "flow_run_id": flow_run_id,
            "metadata": document.metadata,
            **columns.of(chunk),
        }


def tenant_of(key: str, prefix: str) -> str:
    """Return the first part of a key after the pipeline's prefix, or '' (no tenant) if it has only one part.

    A leading slash makes an empty part, so /acme/a.md does not belong to acme. Nor does a key outside the prefix.
    """
    if not key.startswith(prefix):
        return ""
    first, slash, _ = key[len(prefix) :].partition("/")
    return first if slash else ""
