"""One document that cannot be cut stops nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from blocks.settings import Settings
from tasks.documents.chunk import Measure
from tasks.indexing.steps import chunk
from tasks.models import Document, Element, ObjectRef, ParsedBatch


class Words:
    """A counter of words that chokes on one of them."""

    def count(self, texts: list[str]) -> list[int]:
        if any("choke" in text for text in texts):
            raise ValueError("choked")
        return [len(text.split()) for text in texts]


def test_a_document_that_cannot_be_cut_is_quarantined_alone() -> None:
    def document(key: str, text: str) -> Document:
        return Document(ObjectRef(key, "e", 1, 1), (Element(text),))

    counter: Any = Words()
    resources: Any = SimpleNamespace(settings=Settings(), measure=Measure(counter, 100))
    cut = chunk.fn(ParsedBatch((document("bad", "choke on this"), document("good", "read this"))), resources, 1)
    assert [one.ref.key for one in cut.documents] == ["good"]
    assert [(one.ref.key, one.reason) for one in cut.failures] == [
        ("bad", "its text cannot be cut into chunks: choked")
    ]
