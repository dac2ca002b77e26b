"""The limits of Milvus and the ledger for one object, checked before anything is sent to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from tasks.models import Chunk, ObjectRef

WRITE_SECONDS = 12.0
"""Deadline of each attempt of a write. pymilvus starts no attempt later than 3 s after that time, and may ask for the
schema first. So a call ends within 39 s. It starts only while half the lease, 45 s, is left."""

KEY_BYTES = 1024
TEXT_BYTES = 65_535
HEADING_BYTES = 8192
METADATA_BYTES = 65_535

ETAG_CHARACTERS = 255
LARGEST = 2**63 - 1
NAMED = 10


def storable(text: str) -> str:
    """Remove NUL from a text and replace halves of surrogate pairs by '?': no database stores them."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def unkeepable(ref: ObjectRef) -> str | None:
    """Return why neither the ledger nor Milvus can store a row for an object, or None if they can."""
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
    """The listed objects for which no row can be stored: their count, and the first few with the reason."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def keepable(self, refs: Iterable[ObjectRef]) -> list[ObjectRef]:
        """Return the objects for which a row can be stored, and count the others."""
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
    """Raise ``PermanentError`` if Milvus cannot store an object's metadata as JSON."""
    try:
        size = len(json.dumps(dict(metadata), ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise PermanentError("its metadata is not Unicode; Milvus cannot hold it") from error
    if size > METADATA_BYTES:
        raise PermanentError(f"its metadata has {size:,} bytes as JSON, more than the {METADATA_BYTES:,} Milvus holds")


def check_chunk(chunk: Chunk) -> None:
    """Raise ``PermanentError`` if Milvus cannot store a chunk."""
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
