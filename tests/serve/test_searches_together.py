"""Questions that are searched together find what each finds alone, and leave no trace in each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from blocks.pipeline import Pipeline
from tasks.embedding.model import load_model
from tasks.errors import MisuseError, PartError, TransientError
from tasks.ledger.canary import Canary, begin_canary, end_canary
from tasks.ledger.database import Database, now
from tasks.ledger.tables import ASKED
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import Found, Result, search_one, search_together
from tasks.retrieval.question import Question
from tasks.retrieval.routing import Connections
from tasks.retrieval.scope import EVERYTHING
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


def together(block: Pipeline, connections: Connections, *texts: str, **changed: Any) -> list[Result]:
    return all_told(block, connections, [Question("", text) for text in texts], **changed)


def all_told(block: Pipeline, connections: Connections, asked: list[Question], **changed: Any) -> list[Result]:
    told: dict[int, Result] = {}
    settings = block.settings.model_copy(update=changed)
    search_together(block, asked, settings, connections, EVERYTHING, told.update, lambda _seconds: None)
    return [told[at] for at in range(len(asked))]


@pytest.mark.parametrize("changed", [{"mode": "dense"}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "ranks"}])
def test_each_finds_what_it_finds_alone(block: Pipeline, connections: Connections, changed: dict[str, Any]) -> None:
    settings = block.settings.model_copy(update=changed)
    found = together(block, connections, *QUESTIONS, **changed)
    for text, one in zip(QUESTIONS, found, strict=True):
        assert isinstance(one, Found)
        alone = search_one(block, Question("", text), settings, connections)
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
        with ledger.connected() as connection:
            noted = list(connection.execute(sa.select(ASKED.c.failed).where(ASKED.c.alias == block.alias)).scalars())
        assert len(noted) == 20, "each question counts for its generation, once"
        assert not any(noted)
        a_session = [Question("", f"question {number}", session="one") for number in range(8)]
        same = all_told(block, connections, a_session)
        assert len({one.collection for one in same if isinstance(one, Found)}) == 1
    finally:
        end_canary(ledger, block.alias)
        store.drop(empty)


def test_a_canary_that_is_broken_fails_its_own_questions_alone(
    block: Pipeline, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, search = connections.ledger, Store.search
    assert isinstance(ledger, Database)
    live = connections.store.resolve()
    broken = f"{block.alias}_g0098"
    connections.store.create(
        broken, load_model(block.embedder).dimension, block.settings, connections.store.properties(live)
    )

    def away(self: Store, collection: str, *rest: Any) -> Any:
        if collection == broken:
            raise TransientError("Milvus: the collection is not loaded")
        return search(self, collection, *rest)

    monkeypatch.setattr(Store, "search", away)
    begin_canary(ledger, Canary(block.alias, broken, live, (50,), 0, 3600.0, now()))
    try:
        found = together(block, connections, *(f"{QUESTION} {number}" for number in range(20)))
        with ledger.connected() as connection:
            failed = sum(connection.execute(sa.select(ASKED.c.failed).where(ASKED.c.alias == block.alias)).scalars())
    finally:
        end_canary(ledger, block.alias)
        connections.store.drop(broken)
    answered = [one for one in found if isinstance(one, Found)]
    assert {one.collection for one in answered} == {live}
    assert all(one.hits for one in answered)
    assert 0 < failed == 20 - len(answered)


def test_hits_beyond_one_answer_come_in_several_calls(
    block: Pipeline, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [one.hits for one in together(block, connections, *QUESTIONS, top_k=3) if isinstance(one, Found)]
    sizes: list[int] = []
    search = Store.search

    def noted(self: Store, collection: str, questions: Any, *rest: Any) -> Any:
        sizes.append(len(questions))
        return search(self, collection, questions, *rest)

    monkeypatch.setattr(Store, "search", noted)
    monkeypatch.setattr("tasks.retrieval.batch_search.MOST_HITS", 6)
    found = together(block, connections, *QUESTIONS, top_k=3)
    assert [[hit.chunk_id for hit in one.hits] for one in found if isinstance(one, Found)] == [
        [hit.chunk_id for hit in hits] for hits in alone
    ]
    assert max(sizes) == 2


def test_with_a_reranker_each_is_told_before_the_next_is_scored(
    block: Pipeline, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def score(question: str, texts: Sequence[str]) -> list[float]:
        heard.append(question)
        return [1.0] * len(texts)

    for module in ("batch_search", "retrieve"):
        monkeypatch.setattr(f"tasks.retrieval.{module}.load_reranker", lambda _name: score)
    settings = block.settings.model_copy(update={"rerank_model": "a model"})
    asked = [Question("", text) for text in QUESTIONS[:3]]
    search_together(
        block, asked, settings, connections, EVERYTHING,
        lambda results: heard.extend(f"told {at}" for at in results), lambda _seconds: None,
    )  # fmt: skip
    assert heard == [one for at, text in enumerate(QUESTIONS[:3]) for one in (text, f"told {at}")]


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
