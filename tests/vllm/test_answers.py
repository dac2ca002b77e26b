"""Questions that the real vLLM answers, from the index of the project's own guides."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import openai
import pytest
from prefect.settings import PREFECT_API_URL
from pydantic import SecretStr

from flows.ask import ask
from tasks.answer import answer
from tasks.cite import MARK
from tasks.errors import LockstepError, PartError, TransientError
from tasks.generate import ask_model
from tasks.models import Answer, Hit
from tasks.pipelines import load_pipeline
from tests.conftest import ACCESS_KEY, SECRET_KEY, Server, tool
from tests.vllm.conftest import API_KEY, SERVED, Exchange, Exchanges, Library, VllmServer
from tests.vllm.tiny_model import CONTEXT

QUESTION = "What is a generation?"
TOGETHER = 32


def plain(name: str, question: str) -> Answer:
    """Answer without the flow engine, as other callers do."""
    block = load_pipeline(name)
    return answer(block, question, block.settings)


def assert_cites_what_was_shown(found: Answer, exchange: Exchange) -> None:
    """Each citation is of a passage that was in the prompt under that number, and quotes it."""
    for citation in found.citations:
        shown = exchange.passages[citation.n]
        assert shown.startswith(citation.key)
        assert citation.quote in shown


def bare(text: str) -> str:
    """Return an answer without its citations."""
    return " ".join(MARK.sub("", text).split())


def assert_one_sentence(error: LockstepError, *words: str) -> None:
    """A message that helps: one line, with what to look at, and no secret in it."""
    message = str(error)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert API_KEY not in message


@pytest.fixture
def name(library: Library, vllm: VllmServer) -> str:
    return library.pipeline(vllm.chat_model(), temperature=1.0)


def test_an_answer_is_generated_from_passages_and_recorded(name: str, exchanges: Exchanges) -> None:
    found = ask(QUESTION, name)
    assert found.mode == "generated"
    assert found.flow_run_id
    assert {"embed", "search", "generate", "total"} <= found.seconds.keys()
    (exchange,) = exchanges.about(QUESTION)
    assert len(exchange.passages) == 8
    usage = exchange.reply["usage"]
    assert found.tokens == {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]}
    assert 0 < found.tokens["completion"] <= 64
    assert_cites_what_was_shown(found, exchange)


def test_what_is_cited_was_shown(name: str, exchanges: Exchanges, questions: list[str]) -> None:
    """Of 500 answers, with as many passages as chance has it; the model cites [1] to [20] whatever there is."""
    block = load_pipeline(name)

    def one(number: int) -> Answer:
        settings = block.settings.model_copy(update={"top_k": 1 + number % 10})
        return answer(block, f"{questions[number % len(questions)]} (No. {number})", settings)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(one, range(500)))
    for found in answers:
        (exchange,) = exchanges.about(found.question)
        assert_cites_what_was_shown(found, exchange)
    written = "".join(one.reply["choices"][0]["message"]["content"] for one in exchanges)
    assert sum(len(found.citations) for found in answers) > 200
    assert len(MARK.findall(written)) > 2 * sum(len(found.citations) for found in answers)


def test_questions_asked_at_once_are_not_mixed_up(name: str, exchanges: Exchanges, questions: list[str]) -> None:
    asked = questions[:TOGETHER]
    start = Barrier(TOGETHER)

    def one(question: str) -> Answer:
        start.wait(60)
        return plain(name, question)

    with ThreadPoolExecutor(TOGETHER) as threads:
        answers = list(threads.map(one, asked))
    assert len(set(asked)) == len(answers) == TOGETHER
    for question, found in zip(asked, answers, strict=True):
        (exchange,) = exchanges.about(question)
        assert found.question == question
        assert bare(found.answer) == bare(exchange.reply["choices"][0]["message"]["content"])
        assert found.tokens["prompt"] == exchange.reply["usage"]["prompt_tokens"]
        assert_cites_what_was_shown(found, exchange)
    assert len({found.answer for found in answers}) == TOGETHER


def test_a_prompt_longer_than_the_context_loses_the_lowest_ranked(
    library: Library, vllm: VllmServer, exchanges: Exchanges
) -> None:
    name = library.pipeline(vllm.chat_model(), top_k=60, context_tokens=20_000, temperature=1.0)
    found = plain(name, QUESTION)
    *refused, last = exchanges.about(QUESTION)
    assert refused
    assert [one.status for one in refused] == [400] * len(refused)
    assert last.status == 200
    assert 1 <= len(last.passages) < len(refused[-1].passages)
    for one in refused:
        assert list(one.passages.values())[: len(last.passages)] == list(last.passages.values())
    assert found.mode == "generated"
    assert found.tokens["prompt"] <= CONTEXT - 64
    assert_cites_what_was_shown(found, last)


def test_a_question_longer_than_the_context_is_refused(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(), top_k=1)
    with pytest.raises(PartError) as caught:
        plain(name, "0a1Z2b3Y" * 1200)
    assert_one_sentence(caught.value, vllm.base_url)


def test_a_wrong_key_is_named(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(api_key=SecretStr("wrong-key")))
    for way in (plain, lambda name, question: ask(question, name)):
        with pytest.raises(PartError) as caught:
            way(name, QUESTION)
        assert_one_sentence(caught.value, "VLLM_API_KEY", vllm.base_url)
        assert "wrong-key" not in str(caught.value)


def test_a_model_that_is_not_served_is_named(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(model="no-such-model"))
    with pytest.raises(PartError) as caught:
        plain(name, QUESTION)
    assert_one_sentence(caught.value, "no-such-model", "LLM_MODEL")


def test_without_a_name_the_served_model_is_taken(library: Library, vllm: VllmServer, exchanges: Exchanges) -> None:
    for model in (None, "", SERVED):
        plain(library.pipeline(vllm.chat_model(model=model)), QUESTION)
    assert [one.sent["model"] for one in exchanges] == [SERVED] * 3


@pytest.fixture
def command(
    library: Library, vllm: VllmServer, s3_server: Server, milvus_lite: Server, name: str, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `lockstep` over the index with every part configured, as where Lockstep is but a guest."""
    variables = {
        "HOME": str(tmp_path), "LOCKSTEP_HOME": str(tmp_path / "lockstep"), "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": s3_server.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "BUCKET": library.bucket.name, "MILVUS_URI": milvus_lite.url, "COLLECTION_NAME": load_pipeline(name).alias,
        "LEDGER_URL": library.ledger, "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "VLLM_BASE_URL": vllm.base_url, "VLLM_API_KEY": API_KEY, "LOCKSTEP_MIN_SCORE": "-1",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    (tmp_path / "lockstep").mkdir()

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool("lockstep"), *arguments], env={**variables, **changed}, cwd=tmp_path, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    return run


def test_the_command_answers_or_says_in_a_sentence_why_not(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("ask", QUESTION, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mode"] == "generated"
    assert found["tokens"]["completion"] > 0
    refused = command("ask", QUESTION, VLLM_API_KEY="wrong-key")
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert "VLLM_API_KEY" in line
    assert "wrong-key" not in line
    assert refused.stdout == ""


def test_the_passages_may_come_from_anywhere(vllm: VllmServer, library: Library) -> None:
    """`ask_model` is what callers with passages of their own use."""
    hits = [Hit(f"id-{n}", f"{n}.md", 0.5, f"Text of number {n}.", "", None) for n in range(1, 4)]
    settings = load_pipeline(library.pipeline(vllm.chat_model())).settings
    reply = ask_model(vllm.chat_model(), QUESTION, hits, settings)
    assert reply.text
    assert reply.prompt.passages == tuple(hits)
    assert reply.tokens["completion"] > 0


def first_then_all(stream: Iterable[Any], first: Event) -> int:
    """Read a stream to its end, and say when it has begun; returns the number of its pieces."""
    pieces = 0
    for _ in stream:
        pieces += 1
        first.set()
    return pieces


def test_a_server_killed_while_it_writes_is_named_and_may_come_back(library: Library, vllm: VllmServer) -> None:
    long = library.pipeline(vllm.chat_model(), top_k=1, max_answer_tokens=3500, temperature=1.0)
    create = vllm.client().chat.completions.create
    messages: Any = [{"role": "user", "content": QUESTION}]
    begun, threads = Event(), ThreadPoolExecutor(5)
    try:
        asked = [threads.submit(plain, long, QUESTION) for _ in range(4)]
        deadline = time.monotonic() + 60
        while not vllm.generating():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        stream = create(model=SERVED, messages=messages, max_tokens=3500, stream=True)
        streamed = threads.submit(first_then_all, stream, begun)
        assert begun.wait(30)
        vllm.kill()
        for one in asked:
            error = one.exception(30)
            assert isinstance(error, TransientError)
            assert_one_sentence(error, "does not answer", "VLLM_BASE_URL", vllm.base_url)
        assert isinstance(streamed.exception(30), openai.APIConnectionError)
        with pytest.raises(TransientError, match="Is vLLM up"):
            ask(QUESTION, long)
    finally:
        threads.shutdown(wait=False)
        vllm.stop()
        vllm.start()
    assert ask(QUESTION, library.pipeline(vllm.chat_model())).mode == "generated"
