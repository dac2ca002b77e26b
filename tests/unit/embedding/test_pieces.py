"""A batch of many chunks is embedded and written in pieces; what is refused fails its document alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.documents.spool import Spool
from tasks.embedding import batch
from tasks.embedding.batch import embed_batch
from tasks.errors import ContentError, PartError
from tasks.indexing.write import accepted
from tasks.models import Chunk, ChunkedBatch, CutDocument, ObjectRef, Piece


def document(key: str, count: int) -> CutDocument:
    made = (Chunk(f"{key}{n}", key, n, f"{key} {n}", "", None, f"{key} {n}", f"h{key}{n}") for n in range(count))
    return CutDocument(ObjectRef(key, "e", 1, 1), Spool(100).keep(made), {})


def milvus(holds: set[str]) -> tuple[Any, Any, list[Piece]]:
    """Look up and write as Milvus does: what is written is known from then on."""
    vectors = {one: np.array([0.0, 1.0]) for one in holds}
    pieces: list[Piece] = []

    def lookup(hashes: Any) -> dict[str, Any]:
        return {one: vectors[one] for one in hashes if one in vectors}

    def write(piece: Piece) -> dict[str, str]:
        pieces.append(piece)
        vectors.update(
            (chunk.text_hash, vector) for (_, chunk), vector in zip(piece.chunks, piece.vectors, strict=True)
        )
        return {}

    return lookup, write, pieces


class Model:
    dimension = 2
    embedder = SimpleNamespace(document_prompt="", model_name="m")

    def encode(self, texts: list[str], _prompt: str = "") -> Any:
        if any(text == "b 12" for text in texts):
            raise ValueError("choked")
        return np.array([[float(text.split()[-1]), 1.0] if text[1] == " " else [0.0, 1.0] for text in texts])


def test_all_but_the_last_piece_is_written_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PIECE", 10)
    pieces: list[Piece] = []
    model: Any = Model()
    cut = ChunkedBatch((document("a", 3), document("b", 20), document("c", 14)))
    done = embed_batch(cut, model, lambda _hashes: {}, lambda piece: pieces.append(piece) or {})
    assert max(len(piece.chunks) for piece in pieces) <= 10
    assert [one.ref.key for one in done.cut.documents] == ["a", "c"]
    assert "cannot embed its chunk 12" in done.cut.failures[0].reason
    rows = [(c.id, v[0]) for p in [*pieces, done.last()] for (_, c), v in zip(p.chunks, p.vectors, strict=True)]
    of_good = [(i, n) for i, n in rows if not i.startswith("b")]
    assert of_good == [(f"{key}{n}", float(n)) for key, count in (("a", 3), ("c", 14)) for n in range(count)]
    assert len(done.last().chunks) == len(done.vectors) <= 10


def test_what_is_known_is_written_when_nothing_can_fail_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PIECE", 10)
    model: Any = Model()
    lookup, write, pieces = milvus({f"hc{n}" for n in range(20)} | {f"hb{n}" for n in range(5)})
    done = embed_batch(ChunkedBatch((document("c", 30), document("b", 20))), model, lookup, write)
    beside = [chunk.id for piece in pieces[:2] for _, chunk in piece.chunks]
    assert beside == [f"c{n}" for n in range(20, 30)] + [f"b{n}" for n in range(5, 10)]
    assert not any(document.ref.key == "b" for piece in pieces[2:] for document, _ in piece.chunks)
    assert [one.ref.key for one in done.cut.failures] == ["b"]
    written = [chunk.id for piece in [*pieces, done.last()] for _, chunk in piece.chunks if chunk.key == "c"]
    assert sorted(written) == sorted(f"c{n}" for n in range(30))
    assert done.waiting == {chunk.id for _, chunk in done.last().chunks}
    assert (done.embedded, done.reused) == (24, 20)


def test_a_row_that_milvus_refuses_is_found_and_the_others_are_written() -> None:
    rows = [{"key": f"k{n}", "chunk_index": n} for n in range(9)]
    written: list[Any] = []

    def upsert(some: Any) -> None:
        if any(row["key"] == "k5" for row in some):
            raise ContentError("exceeds max length")
        written.extend(some)

    assert list(accepted(rows, upsert)) == ["k5"]
    assert [row["key"] for row in written] == [f"k{n}" for n in range(9) if n != 5]

    def down(_some: Any) -> None:
        raise PartError("denied")

    with pytest.raises(PartError):
        accepted(rows, down)


def test_a_spool_gives_back_what_was_put_aside_however_often() -> None:
    spool = Spool(100)
    one, other = spool.keep(range(1000)), spool.keep("abc")
    assert list(zip(one, other, strict=False)) == [(0, "a"), (1, "b"), (2, "c")]
    assert (list(one), list(other), len(one)) == (list(range(1000)), list("abc"), 1000)
