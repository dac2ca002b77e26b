"""What Milvus or the ledger cannot hold is a failure of its document, or left out and told; it stops nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from blocks.settings import Settings
from tasks.documents.chunk import Measure
from tasks.indexing.steps import chunk
from tasks.limits import HEADING_BYTES, KEY_BYTES, NAMED, TEXT_BYTES, LeftOut, check_chunk, check_metadata, unkeepable
from tasks.models import Chunk, Document, Element, ObjectRef, ParsedBatch


class Words:
    def count(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def cut(*documents: Document) -> Any:
    counter: Any = Words()
    resources: Any = SimpleNamespace(settings=Settings(), measure=Measure(counter, 100))
    return chunk.fn(ParsedBatch(documents), resources, 1)


REF = ObjectRef("k", "e", 1, 1)
CHUNK = Chunk("i", "k", 0, "text", "heading", None, "text", "h")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ü" * (KEY_BYTES // 2), None),
        ("ü" * (KEY_BYTES // 2) + "x", "1,025 bytes"),
        ("a\x00b", "NUL"),
        ("a\ud800b", "not Unicode"),
    ],
)
def test_a_key_that_no_row_can_have(key: str, words: str | None) -> None:
    found = unkeepable(replace(REF, key=key))
    assert (found is None) if words is None else words in str(found)


def test_an_etag_that_no_row_can_have() -> None:
    assert unkeepable(replace(REF, etag="e" * 255)) is None
    assert "ETag" in str(unkeepable(replace(REF, etag="e" * 256)))


def test_what_is_left_out_is_counted_and_the_first_are_named() -> None:
    left_out = LeftOut()
    long = [replace(REF, key="\ud800" * n + "x" * 2000) for n in range(NAMED + 5)]
    assert left_out.keepable([REF, *long]) == [REF]
    assert left_out.count == NAMED + 5
    assert len(left_out.first) == NAMED
    assert all(len(one) < 200 and one.encode() for one in left_out.first)


def test_metadata_that_milvus_cannot_hold() -> None:
    check_metadata({"author": "ü" * 30_000})
    for metadata, words in (({"author": "ü" * 33_000}, "66,014 bytes"), ({"author": "\ud800"}, "not Unicode")):
        found = cut(Document(REF, (Element("a text"),), metadata), Document(replace(REF, key="good"), (Element("b"),)))
        assert [one.ref.key for one in found.documents] == ["good"]
        assert words in found.failures[0].reason


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"heading": "ü" * (HEADING_BYTES // 2)}, None),
        ({"heading": "ü" * (HEADING_BYTES // 2) + "x"}, "heading of its chunk 0 has 8,193 bytes"),
        ({"heading": "a\ud800b"}, "heading of its chunk 0 is not Unicode"),
        ({"text": "x" * TEXT_BYTES}, None),
        ({"text": "x" * TEXT_BYTES + "x"}, "text of its chunk 0 has 65,536 bytes"),
        ({"text": "\udfff"}, "text of its chunk 0 is not Unicode"),
    ],
)
def test_a_chunk_that_milvus_cannot_hold(changed: dict[str, str], words: str | None) -> None:
    from tasks.errors import PermanentError

    made = replace(CHUNK, **changed)
    if words is None:
        check_chunk(made)
    else:
        with pytest.raises(PermanentError, match=words):
            check_chunk(made)


def test_a_document_with_a_heading_that_milvus_cannot_hold_fails_alone() -> None:
    deep = Element("text", tuple("N" * 200 for _ in range(50)))
    found = cut(Document(REF, (deep,)), Document(replace(REF, key="good"), (Element("b"),)))
    assert [one.ref.key for one in found.documents] == ["good"]
    assert "more than the 8,192 Milvus holds" in found.failures[0].reason
