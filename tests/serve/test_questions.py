"""Lockstep's own routes: what the service answers is what the command answers, as JSON and as it comes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from blocks.settings import Settings
from deployments.server.observability import index_metrics
from deployments.server.shapes import hits_json
from flows.audit import audit
from flows.rebuild import rebuild
from flows.rollback import rollback
from tasks.evaluation import warmup
from tasks.evaluation.warmup import ROUND, Warmth
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import search_all
from tasks.retrieval.question import Question
from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.support.chat_server import Say, StubChat, claims

GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield the events of a stream."""
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_search_finds_what_the_command_finds(client: httpx.Client, index: Index) -> None:
    block = load_pipeline(index.name)
    (found,) = search_all(block, [Question("", QUESTION)], block.settings)
    answer = client.post("/search", json={"question": QUESTION})
    assert answer.status_code == 200
    told = answer.json()
    urls = [hit.pop("url") for hit in told["hits"]]
    assert all(url.startswith(str(client.base_url.join("/passages/"))) for url in urls)
    assert told["hits"] == hits_json(found.collection, found.hits, {})["hits"]
    assert (told["collection"], told["notes"]) == (found.collection, [])
    assert told["seconds"].keys() == {"embed", "search"}
    assert "every 400 hours" in told["hits"][0]["text"]


def test_options_and_filters_hold_as_in_the_command(client: httpx.Client) -> None:
    one = client.post("/search", json={"question": QUESTION, "top_k": 1, "mode": "dense"}).json()
    assert len(one["hits"]) == 1
    other = client.post("/search", json={"question": QUESTION, "filter": "key=cake.txt"}).json()
    assert {hit["key"] for hit in other["hits"]} == {"cake.txt"}


def test_without_a_chat_model_an_answer_is_extracted(client: httpx.Client) -> None:
    told = client.post("/ask", json={"question": QUESTION}).json()
    assert (told["mode"], told["flow_run_id"]) == ("extractive", "")
    assert "every 400 hours" in told["answer"]
    assert told["citations"][0]["verified"] is True


def test_an_answer_is_told_claim_by_claim(client: httpx.Client, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    with client.stream("POST", "/ask", json={"question": QUESTION, "pipeline": with_chat, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = list(events(answer))
    names = [name for name, _ in told]
    assert names == ["citation", "claim", "citation", "claim", "answer"]
    whole = told[-1][1]
    assert "".join(data["text"] for name, data in told if name == "claim").strip() == whole["answer"]
    assert [claim["verified"] for name, data in told if name == "claim" for claim in data["claims"]] == [True, False]
    assert whole["mode"] == "generated"
    assert whole["tokens"] == {"prompt": 11, "completion": 7}
    plain = client.post("/ask", json={"question": QUESTION, "pipeline": with_chat}).json()
    assert (plain["answer"], plain["citations"]) == (whole["answer"], whole["citations"])


def test_the_first_claim_comes_before_the_last_is_written(client: httpx.Client, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED, between=0.05))]
    seen: list[tuple[str, float]] = []
    with client.stream("POST", "/ask", json={"question": QUESTION, "pipeline": with_chat, "stream": True}) as answer:
        seen = [(name, time.monotonic()) for name, _ in events(answer)]
    first = next(at for name, at in seen if name == "claim")
    assert seen[-1][1] - first > 0.1


def test_an_error_in_a_stream_is_told_in_the_envelope(client: httpx.Client, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(401, {"error": {"message": "no"}})]
    with client.stream("POST", "/ask", json={"question": QUESTION, "pipeline": with_chat, "stream": True}) as answer:
        assert answer.status_code == 200
        ((name, told),) = list(events(answer))
        about = answer.headers["x-request-id"]
    assert name == "error"
    assert told["error"]["code"] == "part_refused"
    assert told["error"]["request_id"] == about
    assert "VLLM_API_KEY" in told["error"]["message"]


def test_strict_and_fallback_hold(client: httpx.Client, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, GROUNDED)]
    strict = client.post("/ask", json={"question": QUESTION, "pipeline": with_chat, "strict": True}).json()
    assert [claim["verified"] for claim in strict["claims"]] == [True]
    chat.replies = [(500, {"error": {"message": "down"}})]
    down = client.post("/ask", json={"question": QUESTION, "pipeline": with_chat})
    assert (down.status_code, down.json()["error"]["code"]) == (503, "part_unavailable")
    assert down.headers["retry-after"] == "1"
    body = {"question": QUESTION, "pipeline": with_chat, "fallback": "extractive"}
    assert client.post("/ask", json=body).json()["mode"] == "extractive"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_client_that_goes_away_ends_its_generation(
    service: Service, with_chat: str, chat: StubChat, streamed: bool
) -> None:
    """The chat server notices: what it writes goes nowhere, long before its answer would be done."""
    broke = threading.Event()
    seconds = 60.0
    words = claims(
        *((f"The filter is replaced every 400 hours, said {n} times.", [(1, "every 400 hours")]) for n in range(99))
    )
    chat.replies = [(200, Say(words, between=seconds / (len(words) / 7)))]
    handle = chat.server.handle_error
    chat.server.handle_error = lambda *_: broke.set()  # type: ignore[method-assign]
    body = {"question": QUESTION, "pipeline": with_chat, "stream": streamed}
    began = time.monotonic()
    try:
        with service.client() as client:
            if streamed:
                with client.stream("POST", "/ask", json=body) as answer:
                    assert next(events(answer))[0] == "citation"
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post("/ask", json=body, timeout=2.0)
        assert broke.wait(20), "the chat server goes on writing"
    finally:
        chat.server.handle_error = handle  # type: ignore[method-assign]
    assert time.monotonic() - began < seconds / 2


def test_metrics_say_how_the_index_is(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_metrics, "EVERY_SECONDS", 0.5)

    def shown(url: str) -> dict[str, float]:
        lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if f'"{index.name}"' in line]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    began = time.time()
    audit(index.name)
    with serving(index.name) as service:
        assert service.client().post("/search", json={"question": QUESTION}).status_code == 200
        until = time.monotonic() + 60
        answering = f'lockstep_objects{{pipeline="{index.name}",state="answering"}}'
        lag = f'lockstep_index_lag_seconds{{pipeline="{index.name}"}}'
        audit_at = f'lockstep_last_clean_audit_timestamp_seconds{{pipeline="{index.name}"}}'
        listed = f'lockstep_index_listed_age_seconds{{pipeline="{index.name}"}}'
        while not {answering, lag, listed, audit_at} <= shown(service.url).keys():
            assert time.monotonic() < until
            time.sleep(0.2)
        found = shown(service.url)
    assert found[answering] == 2
    assert found[f'lockstep_objects{{pipeline="{index.name}",state="quarantined"}}'] == 0
    assert found[lag] == 0
    assert 0 < found[listed] < 3600
    assert int(began) <= found[audit_at] <= time.time()
    live = f"{load_pipeline(index.name).alias}_g0001"
    assert found[f'lockstep_generation_info{{generation="{live}",pipeline="{index.name}"}}'] == 1


@pytest.fixture
def warmed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, bool]]:
    """What was warmed up: the generation, what was live then, and whether it was searched at all."""
    done: list[tuple[str, str | None, bool]] = []

    def warmth(store: Store, collection: str, settings: Settings) -> Warmth:
        found = real(store, collection, settings)
        done.append((collection, store.live(), found.searches >= ROUND))
        return found

    real = warmup.warmth
    monkeypatch.setattr(warmup, "warmth", warmth)
    return done


def test_a_promotion_and_a_rollback_are_followed_by_the_next_question(
    service: Service, index: Index, warmed: list[tuple[str, str | None, bool]]
) -> None:
    from flows.sync import sync

    name = index.make(name="swapped", alias="swapped_docs")
    sync(name)
    body = {"question": QUESTION, "pipeline": name}
    with service.client() as client:
        assert client.post("/search", json=body).json()["collection"] == "swapped_docs_g0001"
        assert rebuild(name, Settings(embed_heading=False)).promoted
        assert client.post("/search", json=body).json()["collection"] == "swapped_docs_g0002"
        assert client.post("/ask", json=body).json()["collection"] == "swapped_docs_g0002"
        rollback(name)
        assert client.post("/search", json=body).json()["collection"] == "swapped_docs_g0001"
    first, second = "swapped_docs_g0001", "swapped_docs_g0002"
    assert warmed == [(second, first, True), (first, second, True)], "each was warm before it answered"


def test_many_questions_at_once_are_answered_as_they_are_alone(service: Service) -> None:
    questions = [f"{QUESTION} Or is it number {n} that matters?" for n in range(40)]

    def ask(question: str) -> list[tuple[str, float]]:
        with service.client() as client:
            told = client.post("/search", json={"question": question, "top_k": 2, "mode": "dense"}).json()
        return [(hit["chunk_id"], round(hit["score"], 4)) for hit in told["hits"]]

    alone = [ask(question) for question in questions]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(20) as threads:
        together = list(threads.map(ask, questions))
    assert together == alone
    metrics = httpx.get(f"{service.url}/metrics").text
    batches = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if "embed_batch" in line and line[0] != "#"
    }
    passes, asked = batches["lockstep_embed_batch_size_count"], batches["lockstep_embed_batch_size_sum"]
    assert passes < asked, "some shared a forward pass"
