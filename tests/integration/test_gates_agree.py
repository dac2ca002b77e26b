"""Does a generation hold what the ledger says? Each way in which it may not, and what golden questions lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import sqlalchemy as sa

from blocks.settings import Settings
from tasks.documents.chunk import embedded_text, hash_of
from tasks.evaluation import gates
from tasks.evaluation.evaluate import Evaluation
from tasks.generations.opening import open_next
from tasks.ledger.objects import confirm_indexed, forget_objects, record_deletions, record_wanted
from tasks.ledger.tables import GENERATIONS
from tasks.milvus.rows import Columns, to_rows
from tasks.models import Chunk, ChunkedBatch, CutDocument, EmbeddedBatch, ObjectRef
from tasks.resources import Resources

REF = ObjectRef("a.md", "e1", 1, 0)
TEXTS = {"i1": "The green light shows.", "i2": "Unplug the device first.", "i3": "Pumps need oil."}


@pytest.fixture
def collection(resources: Resources) -> str:
    """A generation of one object of three chunks, whole."""
    made = open_next(resources)
    write(resources, made, TEXTS)
    record_wanted(resources.ledger, made, [REF], "run")
    confirm_indexed(resources.ledger, made, {REF: list(TEXTS)}, [], "run")
    return made


def write(resources: Resources, collection: str, texts: Mapping[str, str], vectors: Any = None) -> None:
    whole = {name: embedded_text("", text, resources.settings, resources.measure) for name, text in texts.items()}
    chunks = tuple(
        Chunk(name, REF.key, n, texts[name], "", None, text, hash_of(text))
        for n, (name, text) in enumerate(whole.items())
    )
    if vectors is None:
        vectors = resources.model.encode(list(whole.values()))
    batch = EmbeddedBatch(ChunkedBatch((CutDocument(REF, chunks, {}),)), vectors, len(chunks), 0)
    resources.store.upsert(collection, to_rows(batch, 1, "run", Columns(resources.store.capabilities.bm25)))


def failed(resources: Resources, collection: str) -> list[str]:
    measured = (
        gates.agree(resources, collection),
        gates.agree_in_detail(resources, collection, [REF.key]),
        gates.agree_in_vectors(resources, collection, list(TEXTS)),
        gates.of_fingerprint(resources, collection),
    )
    return [gate.name.split()[0] for gate in measured if not gate.passed]


def test_a_generation_that_holds_what_the_ledger_says_passes(resources: Resources, collection: str) -> None:
    assert failed(resources, collection) == []


def test_a_chunk_too_many_or_too_few_is_told(resources: Resources, collection: str) -> None:
    write(resources, collection, {"i4": "A chunk that nobody wrote down."})
    assert failed(resources, collection) == ["chunks", "objects"]
    resources.store.delete(collection, ["i4", "i1"])
    assert failed(resources, collection) == ["chunks", "objects"]


def test_another_chunk_in_the_place_of_one_is_told(resources: Resources, collection: str) -> None:
    resources.store.delete(collection, ["i3"])
    write(resources, collection, {"i4": TEXTS["i3"]})
    assert failed(resources, collection) == ["objects"]


def test_an_object_that_the_ledger_does_not_know_is_told(resources: Resources, collection: str) -> None:
    record_deletions(resources.ledger, collection, [REF.key], "run")
    forget_objects(resources.ledger, collection, [REF.key])
    assert failed(resources, collection) == ["chunks", "objects"]


def test_one_vector_that_is_not_of_its_text_is_told(resources: Resources, collection: str) -> None:
    own = resources.model.encode(list(TEXTS.values()))
    away = np.roll(own[0], 1) - own[0] * float(np.roll(own[0], 1) @ own[0])
    away /= np.linalg.norm(away)
    for cosine, wrong in ((0.999, []), (0.97, ["vectors"])):
        own[0] = cosine * resources.model.encode([TEXTS["i1"]])[0] + (1 - cosine**2) ** 0.5 * away
        write(resources, collection, TEXTS, own)
        assert failed(resources, collection) == wrong


def test_a_collection_of_another_fingerprint_is_told(resources: Resources, collection: str) -> None:
    with resources.ledger.transaction() as connection:
        connection.execute(sa.update(GENERATIONS).values(ingredients={"model": "another"}))
    assert failed(resources, collection) == ["fingerprint"]


@pytest.mark.parametrize(
    ("now", "before", "passes"), [(0.75, 0.5, True), (0.5, 0.5, True), (0.25, 0.5, True), (0.2, 0.5, False)]
)
def test_golden_questions_may_lose_as_much_as_is_set(now: float, before: float, passes: bool) -> None:
    class Measured:
        answerable = (1, 2)

        def __init__(self, value: float) -> None:
            self.measures = {"recall@10": value, "ndcg@10": 0.5}

    resources: Any = type("Asked", (), {"settings": Settings(gate_golden=0.25)})
    new, live = (cast(Evaluation, Measured(value)) for value in (now, before))
    of_recall, of_ndcg = gates.lost(resources, new, live, 0)
    assert (of_recall.passed, of_ndcg.passed) == (passes, True)
