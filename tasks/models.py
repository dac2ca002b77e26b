"""The values that pass between tasks. All are frozen, and none uses a network."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

Action = Literal["new", "changed"]
Mode = Literal["generated", "extractive", "abstained"]


WRITTEN = "written-"
"""Start of the version of an object without an ETag. The second in which it was written follows."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A version of a key in the bucket, as listed. ``size`` in bytes, ``last_modified`` in ms since 1970."""

    key: str
    etag: str
    size: int
    last_modified: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, spooled to ``path``, with its user metadata (names in lower case)."""

    ref: ObjectRef
    path: Path
    content_type: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Element:
    """A piece of a document: its text, the headings above it (outermost first) and its page, from 1."""

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One object parsed into elements, in reading order."""

    ref: ObjectRef
    elements: Collection[Element]
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one document.

    ``embedded`` is what the model reads (heading path and text), ``text_hash`` its hash, ``index`` the position in
    the document from 0. ``id`` is computed from key, ``text_hash`` and occurrence. The position does not count, so the
    id survives edits elsewhere in the document.
    """

    id: str
    key: str
    index: int
    text: str
    heading: str
    page: int | None
    embedded: str
    text_hash: str


@dataclass(frozen=True, slots=True)
class CutDocument:
    """One document, cut into chunks."""

    ref: ObjectRef
    chunks: Collection[Chunk]
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that cannot be indexed as it is, and the reason as a sentence for people.

    ``unsuitable`` objects (empty, too large, of a type that is not read) are no sign of an outage. The bucket does not
    hand out ``withheld`` objects. That may pass, so they are retried without being asked.
    """

    ref: ObjectRef
    reason: str
    unsuitable: bool = False
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """A batch after parsing. Objects in ``moved_on`` changed or vanished during the read; the next sync takes them."""

    documents: tuple[Document, ...]
    failures: tuple[Failure, ...] = ()
    moved_on: tuple[ObjectRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkedBatch:
    """A batch after chunking."""

    documents: tuple[CutDocument, ...]
    failures: tuple[Failure, ...] = ()
    moved_on: tuple[ObjectRef, ...] = ()

    @property
    def chunks(self) -> Iterator[Chunk]:
        """All chunks of the batch, in order of document and position."""
        return (chunk for document in self.documents for chunk in document.chunks)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some chunks with their documents, and one vector for each: ``vectors`` has shape (chunks, dimension)."""

    chunks: tuple[tuple[CutDocument, Chunk], ...]
    vectors: Vectors

    def without(self, keys: Collection[str]) -> Piece:
        """Return the piece without the chunks of these objects."""
        return self._only([i for i, (document, _) in enumerate(self.chunks) if document.ref.key not in keys])

    def of(self, hashes: Collection[str]) -> Piece:
        """Return the piece with only the chunks whose text has one of these hashes."""
        return self._only([i for i, (_, chunk) in enumerate(self.chunks) if chunk.text_hash in hashes])

    def _only(self, places: list[int]) -> Piece:
        return Piece(tuple(self.chunks[i] for i in places), self.vectors[places])


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """A batch with the vectors of the chunks that are not written yet, shape (chunks, dimension).

    ``waiting`` holds the ids of those chunks. None means that no chunk is written.
    """

    cut: ChunkedBatch
    vectors: Vectors
    embedded: int
    reused: int
    waiting: frozenset[str] | None = None

    def last(self) -> Piece:
        """Return the chunks that are not written yet."""
        chunks = ((document, chunk) for document in self.cut.documents for chunk in document.chunks)
        return Piece(tuple(one for one in chunks if self.waiting is None or one[1].id in self.waiting), self.vectors)


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk within a passage, whose text it fills from character ``begin`` to ``end``."""

    chunk_id: str
    page: int | None
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found for a question. ``score`` is its cosine similarity, or its rank score in other modes.

    A hit is ``outdated`` if the newest version of its object is in quarantine, so that the chunk is from an older one.
    ``etag`` is that of the chunk's version. ``parts`` are the chunks that ``text`` is joined from, in reading order.
    There are none if ``text`` is that of this chunk alone.
    """

    chunk_id: str
    key: str
    score: float
    text: str
    heading: str
    page: int | None
    text_hash: str = ""
    chunk_index: int = 0
    outdated: bool = False
    etag: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the answer rests on. A ``verified`` ``quote`` is word for word in the chunk ``chunk_id``.

    ``span`` gives its start and end in the chunk's text, in characters. A quote that is not verified is the model's
    claim, and has no span. ``version`` is the object's ETag. ``outdated`` has the same meaning as for a hit.
    """

    n: int
    key: str
    heading: str
    page: int | None
    quote: str
    chunk_id: str
    outdated: bool = False
    verified: bool = True
    version: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of an answer and the numbers that it cites. ``verified`` if a quote of one of them is verified."""

    text: str
    citations: tuple[int, ...] = ()
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer, or a piece of one, as far as it holds: its text, its claims, and each citation once."""

    text: str
    claims: tuple[Claim, ...] = ()
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its citations and passages.

    ``seconds`` has one entry for each stage. ``tokens`` are as the chat model counted them. A ``cached`` answer was
    written for an earlier question. ``passages`` were found for the question, best first. Citation ``n`` is of
    ``passages[n - 1]``.
    """

    question: str
    answer: str
    mode: Mode
    citations: tuple[Citation, ...]
    collection: str
    seconds: dict[str, float]
    tokens: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    flow_run_id: str = ""
    claims: tuple[Claim, ...] = ()
    cached: bool = False
    passages: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class Swap:
    """The result of a rebuild, a promotion or a rollback.

    ``state`` is that of the collection at the end. ``promoted`` says whether the alias points at it now. ``gates`` are
    rows of name, value, bound, passed, detail.
    """

    collection: str
    before: str | None
    state: str
    promoted: bool
    chunks_embedded: int = 0
    chunks_reused: int = 0
    gates: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    flow_run_id: str = ""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of one sync, in numbers of objects unless a name says chunks or seconds.

    ``new`` + ``changed`` + ``unchanged`` objects were listed. ``quarantined`` objects are in quarantine after the run.
    ``moved_on`` objects are left for the next one. No row can be stored for ``left_out`` objects, of which
    ``left_out_named`` has the first few."""

    collection: str
    new: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    moved_on: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_deleted: int = 0
    seconds: float = 0.0
    flow_run_id: str = ""
    left_out: int = 0
    left_out_named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss from a listing: objects held, how many of them would be deleted for good, and how many were listed.

    ``keys`` are the first of those that would be deleted.
    """

    held: int
    lost: int
    listed: int
    keys: tuple[str, ...] = ()
