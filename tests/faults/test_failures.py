"""Objects that cannot be indexed, or not as they were listed: what becomes of them, and when it is an outage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flows.audit import audit
from flows.sync import sync
from tasks.crash_points import listeners
from tasks.errors import OutageError, PartError
from tasks.ledger import quarantine
from tasks.ledger.database import Database
from tasks.pipelines import load_pipeline
from tests.faults.test_faults import TEXTS, keys, states
from tests.support.servers import Bucket


def test_when_too_much_fails_the_run_stops_and_quarantines_nothing(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    for key, text in TEXTS.items():
        bucket.put(key, text)
    for number in range(5):
        bucket.put(f"bad/{number}.pdf", b"%PDF-1.4 and nothing else")
    name = make_pipeline()
    with pytest.raises(OutageError, match=r"5 of 17 objects.*LOCKSTEP_MAX_FAILED_SHARE"):
        sync(name)
    assert states(name) == {"indexed": len(TEXTS), "pending": 5}
    with pytest.raises(OutageError):
        sync(name)
    # Nobody did anything about it: what fails in a third run is put into quarantine, and the way is free again.
    assert sync(name).quarantined == 5
    assert audit(name).consistent
    block = load_pipeline(name)
    assert len(quarantine.retry(Database(block.ledger), f"{block.alias}_g0001")) == 5
    assert sync(name).quarantined == 5


def test_a_text_that_the_model_cannot_embed_takes_only_its_document_along(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.embedding.model import EmbeddingModel

    for key, text in TEXTS.items():
        bucket.put(key, text)
    bucket.put("poison.txt", "This text is poison for the model and for nobody else.")
    encode = EmbeddingModel.encode

    def choke(self: EmbeddingModel, texts: Any, prompt: str = "") -> Any:
        if any("poison" in text for text in texts):
            raise RuntimeError("index out of range in self")
        return encode(self, texts, prompt)

    monkeypatch.setattr(EmbeddingModel, "encode", choke)
    name = make_pipeline()
    report = sync(name)
    assert (report.new, report.quarantined) == (13, 1)
    assert keys(name) == TEXTS.keys()
    row = quarantine.quarantined(Database(load_pipeline(name).ledger), report.collection)[0]
    assert row["key"] == "poison.txt"
    assert "index out of range" in row["reason"]


def test_a_document_of_nothing_but_poison_fails_alone_and_a_broken_model_fails_the_run(
    make_pipeline: Callable[..., str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.embedding.model import EmbeddingModel

    encode = EmbeddingModel.encode
    broken = [False]

    def choke(self: EmbeddingModel, texts: Any, prompt: str = "") -> Any:
        if broken[0] or any("poison" in text for text in texts):
            raise RuntimeError("index out of range in self")
        return encode(self, texts, prompt)

    monkeypatch.setattr(EmbeddingModel, "encode", choke)
    bucket.put("a.md", "# A\n\nSome poison.\n\n# B\n\nMore poison of another kind.\n")
    name = make_pipeline()
    assert sync(name).quarantined == 1
    broken[0] = True
    bucket.put("fine.txt", "A text that nothing is wrong with.")
    with pytest.raises(PartError, match="EMBED_MODEL_NAME"):
        sync(name)
    broken[0] = False
    assert sync(name).new == 1
    assert keys(name) == {"fine.txt"}


def test_the_same_bytes_under_a_new_etag_embed_nothing(make_pipeline: Callable[..., str], bucket: Bucket) -> None:
    """As after a multipart upload. The S3 server here names all objects by their MD5, so the ledger is changed."""
    from tasks.ledger.tables import OBJECTS

    bucket.put("a.txt", TEXTS["t/00.txt"])
    name = make_pipeline()
    first = sync(name)
    ledger = Database(load_pipeline(name).ledger)
    with ledger.transaction() as connection:
        connection.execute(sa.update(OBJECTS).values(etag="0123-2", indexed_etag="0123-2"))
    again = sync(name)
    assert (again.changed, again.chunks_embedded, again.chunks_reused) == (1, 0, 1)
    assert first.chunks_embedded == 1
    assert audit(name).consistent


def test_an_object_that_changes_or_goes_while_it_is_read_is_left_for_the_next_sync(
    make_pipeline: Callable[..., str], bucket: Bucket
) -> None:
    bucket.put("changes.txt", "The first version, listed and then overwritten.")
    bucket.put("goes.txt", "This object is listed and then deleted.")
    bucket.put("stays.txt", "This object stays as it is.")

    def meddle(place: str) -> None:
        if place == "wanted recorded":
            bucket.put("changes.txt", "The second version, written before it could be read.")
            bucket.delete("goes.txt")

    name = make_pipeline()
    listeners.append(meddle)
    try:
        report = sync(name)
    finally:
        listeners.remove(meddle)
    assert report.moved_on == 2
    assert keys(name) == {"stays.txt"}
    sync(name)
    assert keys(name) == {"stays.txt", "changes.txt"}
    assert audit(name).consistent
