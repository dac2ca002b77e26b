"""Limits of what Milvus and the ledger hold of one object, checked before anything is sent to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from tasks.models import Chunk, ObjectRef

WRITE_SECONDS = 12.0
"""Deadline of each try of a write. pymilvus begins no try of a call later than 3 s after that time, and may ask for the
schema first: a call ends within 39 s, and is begun only while half the lease, 45 s, is left."""

KEY_BYTES = 1024
TEXT_BYTES = 65_535
HEADING_BYTES = 8192
METADATA_BYTES = 65_535

ETAG_CHARACTERS = 255
LARGEST = 2**63 - 1
NAMED = 10


def storable(text: str) -> str:
    """Return the text without what no database keeps: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def unkeepable(ref: ObjectRef) -> str | None:
    """Return why no row can be kept of an object, neither in the ledger nor in Milvus, or None when it can."""
    try:
        size = len(ref.key.encode())
    except UnicodeEncodeError:
        return "its key is not Unicode"
    if "\x00" in ref.key:
        return "its key has a NUL character"
    if size > KEY_BYTES:
        return f"its key has {size:,} bytes, more than {KEY_BYTES:,}"
    if len(ref.etag) > ETAG_CHARACTERS:
        return f"its ETag has {len(ref.etag):,} characters, more than {ETAG_CHARACTERS}"
    if ref.size > LARGEST:
        return f"its size is {ref.size:,} bytes"
    return None


class LeftOut:
    """What a listing has that no row can be kept of: how many objects, and the first few of them with the reason."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def keepable(self, refs: Iterable[ObjectRef]) -> list[ObjectRef]:
        """Return those that a row can be kept of; count the others."""
        kept = []
        for ref in refs:
            why = unkeepable(ref)
            if why is None:
                kept.append(ref)
                continue
            self.count += 1
            if len(self.first) < NAMED:
                self.first.append(f"'{storable(ref.key)[:80]}…': {why}")
        return kept


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise ``PermanentError`` for an object's metadata that Milvus cannot hold as JSON."""
    try:
        size = len(json.dumps(dict(metadata), ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise PermanentError("its metadata is not Unicode; Milvus cannot hold it") from error
    if size > METADATA_BYTES:
        raise PermanentError(f"its metadata has {size:,} bytes as JSON, more than the {METADATA_BYTES:,} Milvus holds")


def check_chunk(chunk: Chunk) -> None:
    """Raise ``PermanentError`` for a chunk that Milvus cannot hold."""
    for name, value, most in (("text", chunk.text, TEXT_BYTES), ("heading", chunk.heading, HEADING_BYTES)):
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise PermanentError(
                f"the {name} of its chunk {chunk.index} is not Unicode; Milvus cannot hold it"
            ) from error
        if size > most:
            raise PermanentError(
                f"the {name} of its chunk {chunk.index} has {size:,} bytes, more than the {most:,} Milvus holds"
            )
