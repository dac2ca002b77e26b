"""Questions that are searched together find what each finds alone, and leave no trace in each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from blocks.pipeline import Pipeline
from tasks.embedding.model import load_model
from tasks.errors import LockstepError, MisuseError, PartError
from tasks.ledger.canary import Canary, begin_canary, end_canary
from tasks.ledger.database import Database, now
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import Found, search_one, search_together
from tasks.retrieval.question import Question
from tasks.retrieval.routing import Connections
from tests.serve.conftest import QUESTION, Index, Service

QUESTIONS = (QUESTION, "How is the pump started?", "How long is the cake baked?", "?", "Which filter type?")


@pytest.fixture
def block(index: Index) -> Pipeline:
    return load_pipeline(index.name)


@pytest.fixture
def connections(block: Pipeline) -> Iterator[Connections]:
    opened = Connections(block, shared=True)
    yield opened
    opened.close()


def together(block: Pipeline, connections: Connections, *texts: str, **changed: Any) -> list[Found | LockstepError]:
    asked = [Question("", text) for text in texts]
    return search_together(block, asked, block.settings.model_copy(update=changed), connections)


@pytest.mark.parametrize("changed", [{"mode": "dense"}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "ranks"}])
def test_each_finds_what_it_finds_alone(block: Pipeline, connections: Connections, changed: dict[str, Any]) -> None:
    settings = block.settings.model_copy(update=changed)
    found = together(block, connections, *QUESTIONS, **changed)
    for text, one in zip(QUESTIONS, found, strict=True):
        assert isinstance(one, Found)
        alone = search_one(block, text, settings, connections)
        assert [hit.chunk_id for hit in one.hits] == [hit.chunk_id for hit in alone.hits]
        assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in alone.hits], abs=2e-3)


def test_one_that_is_refused_leaves_the_others_their_hits(block: Pipeline, connections: Connections) -> None:
    named = "Does pump@works.example know how often the filter is replaced?"
    refused, good = together(block, connections, named, QUESTION, personal_data="refuse")
    assert isinstance(refused, MisuseError)
    assert isinstance(good, Found)
    assert good.hits
    masked, plain = together(block, connections, named, QUESTION, personal_data="mask")
    assert isinstance(masked, Found)
    assert isinstance(plain, Found)
    assert masked.notes
    assert not plain.notes


def test_one_that_milvus_refuses_leaves_the_others_their_hits(
    block: Pipeline, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Store.search

    def picky(self: Store, collection: str, questions: Any, *rest: Any) -> Any:
        if "bad" in questions:
            raise PartError("Milvus: it does not like this one")
        return search(self, collection, questions, *rest)

    monkeypatch.setattr(Store, "search", picky)
    first, bad, last = together(block, connections, QUESTION, "bad", "How is the pump started?")
    assert isinstance(bad, PartError)
    assert isinstance(first, Found)
    assert isinstance(last, Found)
    assert first.hits
    assert last.hits


def test_a_canary_answers_its_share_of_a_group(block: Pipeline, connections: Connections) -> None:
    ledger = connections.ledger
    assert isinstance(ledger, Database)
    store, live = connections.store, connections.store.resolve()
    empty = f"{store.alias}_g0099"
    properties = store.properties(live)
    store.create(empty, load_model(block.embedder).dimension, block.settings, properties)
    begin_canary(ledger, Canary(block.alias, empty, live, (50,), 0, 3600.0, now()))
    try:
        found = together(block, connections, *(f"{QUESTION} {number}" for number in range(20)))
        of = {one.collection: one for one in found if isinstance(one, Found)}
        assert len(found) == 20
        assert of.keys() == {live, empty}
        assert of[live].hits
        assert not of[empty].hits
        a_session = [Question("", f"question {number}", session="one") for number in range(8)]
        same = search_together(block, a_session, block.settings, connections)
        assert len({one.collection for one in same if isinstance(one, Found)}) == 1
    finally:
        end_canary(ledger, block.alias)
        store.drop(empty)


def test_many_clients_at_once_get_their_own_hits(service: Service) -> None:
    """Every client asks one question again and again; groups of whatever sizes answer them."""
    with service.client() as client:
        alone = {text: ids(client, text) for text in QUESTIONS}
    wrong: list[str] = []

    def ask(text: str) -> None:
        with service.client() as client:
            wrong.extend(text for _ in range(10) if ids(client, text) != alone[text])

    threads = [threading.Thread(target=ask, args=[QUESTIONS[number % len(QUESTIONS)]]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def ids(client: httpx.Client, text: str) -> list[str]:
    found = client.post("/search", json={"question": text, "top_k": 3}).raise_for_status().json()
    return [hit["chunk_id"] for hit in found["hits"]]
