"""Questions that the real vLLM answers, from the index of the project's own guides; each answer is checked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from pydantic import SecretStr

from flows.ask import ask
from tasks.answers.answer import REMOVED_NOTE
from tasks.answers.generate import MARKED_NOTE, ask_model, in_json
from tasks.chat.client import Chat
from tasks.citations.markers import MARK, without_marks
from tasks.citations.verify import UNVERIFIED
from tasks.errors import PartError
from tasks.models import Answer, Hit
from tasks.pipelines import load_pipeline
from tests.vllm.checks import (
    assert_checked,
    assert_numbers_limited,
    assert_one_sentence,
    claims_written,
    numbers_allowed,
    plain,
)
from tests.vllm.conftest import SERVED, Command, Exchanges, Library, VllmServer, recorded
from tests.vllm.tiny_model import CONTEXT

QUESTION = "What is a generation?"
ANSWERS = int(os.environ.get("LOCKSTEP_VLLM_ANSWERS", "60"))
TOGETHER = 32
SHORT = 128
"""Tokens of an answer where any will do: noise in plain text goes on until its limit."""


def letters(text: str) -> str:
    """Return the letters of a text alone, which no citation has."""
    return "".join(one for one in text if one.isalpha())


def many(name: str, questions: Sequence[str], count: int, **changed: Any) -> list[Answer]:
    """Ask so many questions, no two alike, each with as many passages as its number has it."""

    def one(number: int) -> Answer:
        question = f"{questions[number % len(questions)]} (No. {number})"
        return plain(name, question, top_k=1 + number % 10, **changed)

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(one, range(count)))


def test_an_answer_is_generated_from_passages_and_recorded(name: str, exchanges: Exchanges) -> None:
    found = ask(QUESTION, name)
    assert found.mode in ("generated", "abstained")
    assert found.flow_run_id
    assert {"embed", "search", "generate", "total"} <= found.seconds.keys()
    (exchange,) = exchanges.about(QUESTION)
    assert 1 < len(exchange.passages) <= len(found.passages) <= 8
    cut = any("the model was shown" in note for note in found.notes)
    assert cut is (len(exchange.passages) < len(found.passages))
    usage = exchange.reply["usage"]
    assert found.tokens == {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]}
    assert found.tokens["completion"] > 0
    assert_numbers_limited(exchange)
    assert_checked(found, exchange)


@pytest.fixture(scope="module")
def structured(vllm: VllmServer, name: str, questions: list[str]) -> tuple[list[Answer], Exchanges]:
    """Many answers in JSON, and what was exchanged for them."""
    with pytest.MonkeyPatch.context() as patch:
        exchanges = recorded(vllm, patch)
        return many(name, questions, ANSWERS), exchanges


def test_what_is_cited_was_shown(structured: tuple[list[Answer], Exchanges]) -> None:
    """Every number is a passage of its prompt, every verified quote a part of its chunk."""
    answers, exchanges = structured
    for found in answers:
        (exchange,) = exchanges.about(found.question)
        assert exchange.status == 200
        assert_numbers_limited(exchange)
        assert_checked(found, exchange)
    assert {found.mode for found in answers} == {"generated", "abstained"}
    claims = [claim for found in answers for claim in found.claims]
    citations = [citation for found in answers for citation in found.citations]
    assert len(citations) >= len(claims) > ANSWERS // 4
    assert not all(one.verified for one in claims), "noise is seldom a quote"


def test_the_claims_are_those_that_the_model_wrote(structured: tuple[list[Answer], Exchanges]) -> None:
    """None is lost, added or changed; one without a quote that stands in its passage is marked."""
    answers, exchanges = structured
    whole = 0
    for found in answers:
        (exchange,) = exchanges.about(found.question)
        if exchange.reply["choices"][0]["finish_reason"] != "stop":
            continue
        whole += 1
        texts = [without_marks(" ".join(one["text"].split())) for one in claims_written(exchange)]
        assert [claim.text for claim in found.claims] == [text for text in texts if text]
        assert found.mode == ("generated" if found.claims else "abstained")
        for claim in found.claims:
            assert claim.citations, "a claim without a citation is not what the schema admits"
            assert claim.verified or f"{claim.text}{UNVERIFIED}" in found.answer
    assert whole > ANSWERS // 2


def test_marks_are_checked_as_well(name: str, exchanges: Exchanges, questions: list[str]) -> None:
    """In text with [n], which nothing limits: the model cites [1] to [20] whatever there is."""
    answers = many(name, questions, 40, answers="marked", max_answer_tokens=SHORT)
    for found in answers:
        (exchange,) = exchanges.about(found.question)
        assert exchange.schema is None
        assert_checked(found, exchange, marks=True)
        assert all(one.verified or not one.quote for one in found.citations), "a quote is ours, out of the passage"
        shown = [int(n) for marks in MARK.findall(found.answer) for n in marks.split(",")]
        assert set(shown) <= set(exchange.passages)
    kept = sum(len(found.citations) for found in answers)
    assert kept > 5, "by chance, but of some hundred marks"
    assert len(MARK.findall("".join(one.written for one in exchanges))) > 2 * kept


@pytest.mark.parametrize("style", ["structured", "marked"])
def test_a_second_call_assigns_the_citations(name: str, exchanges: Exchanges, questions: list[str], style: str) -> None:
    answers = many(name, questions, 20, stages=2, answers=style, max_answer_tokens=SHORT)
    for found in answers:
        first, *others = exchanges.about(found.question)
        assert first.schema is None
        if not found.claims:
            assert not others, "nothing was stated, so there is nothing to assign"
            continue
        if style == "structured" and not in_json(others[0].written):
            # vLLM's detokenizer now and then puts the end of the prompt before an answer, when tokens are half a
            # character (issue 17448 of its repository): that is not taken for JSON, and text is asked for instead.
            assert MARKED_NOTE in found.notes
            continue
        (second,) = others
        assert_checked(found, second, marks=style == "marked")
        if style == "structured":
            assert_numbers_limited(second)
            sentences = numbers_allowed(second.schema, "sentence")
            assert sentences == list(range(1, len(found.claims) + 1))
        usage = [one.reply["usage"] for one in (first, second)]
        assert found.tokens["prompt"] == sum(one["prompt_tokens"] for one in usage)
        assert found.tokens["completion"] == sum(one["completion_tokens"] for one in usage)
    if style == "structured":
        assert any(found.citations for found in answers)


def test_strict_leaves_out_what_is_not_verified(name: str, exchanges: Exchanges, questions: list[str]) -> None:
    answers = many(name, questions, 30, strict=True)
    left_out = 0
    for found in answers:
        (exchange,) = exchanges.about(found.question)
        assert_checked(found, exchange)
        assert all(one.verified for one in (*found.claims, *found.citations))
        assert UNVERIFIED not in found.answer
        assert (found.mode == "generated") is bool(found.claims)
        left_out += REMOVED_NOTE in found.notes
    assert left_out > 0


def test_questions_asked_at_once_are_not_mixed_up(name: str, exchanges: Exchanges, questions: list[str]) -> None:
    asked = questions[:TOGETHER]
    start = Barrier(TOGETHER)

    def one(question: str, style: str) -> Answer:
        start.wait(120)
        return plain(name, question, answers=style)

    styles = ["structured", "marked"] * (TOGETHER // 2)
    with ThreadPoolExecutor(TOGETHER) as threads:
        answers = list(threads.map(one, asked, styles))
    assert len(set(asked)) == len(answers) == TOGETHER
    for question, style, found in zip(asked, styles, answers, strict=True):
        (exchange,) = exchanges.about(question)
        assert found.question == question
        assert found.tokens["prompt"] == exchange.reply["usage"]["prompt_tokens"]
        assert_checked(found, exchange, marks=style == "marked")
        if style == "marked":
            assert all(letters(claim.text) in letters(exchange.written) for claim in found.claims)
    assert len({found.answer for found in answers if found.mode == "generated"}) >= TOGETHER // 2


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "refused"])
def test_a_prompt_longer_than_the_context_loses_the_lowest_ranked(
    library: Library, vllm: VllmServer, exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """The server's tokenizer tells what fits; where there is none, the server refuses what does not."""
    if not counted:
        monkeypatch.setattr(Chat, "count", lambda *_: None)
    name = library.pipeline(vllm.chat_model(), top_k=60, context_tokens=20_000)
    found = plain(name, QUESTION)
    *refused, last = exchanges.about(QUESTION)
    assert bool(refused) is not counted
    for one in refused:  # or it fitted, and left the answer so little room that the server cut it
        assert one.status == 400 or one.reply["choices"][0]["finish_reason"] == "length"
    assert last.status == 200
    assert 1 <= len(last.passages) < len(found.passages)
    for one in refused:
        assert list(one.passages.values())[: len(last.passages)] == list(last.passages.values())
    if counted:
        room = CONTEXT - last.sent["max_tokens"]
        assert 0.6 * room < found.tokens["prompt"] <= room, "as many as fit"
    assert any(f"shown {len(last.passages)} of {len(found.passages)} passages" in note for note in found.notes)
    assert_numbers_limited(last)
    assert_checked(found, last)


def test_a_question_longer_than_the_context_is_refused(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(), top_k=1)
    with pytest.raises(PartError) as caught:
        plain(name, "0a1Z2b3Y" * 1200)
    assert_one_sentence(caught.value, vllm.base_url)


def test_a_wrong_key_is_named(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(api_key=SecretStr("wrong-key")))
    for way in (plain, ask):
        with pytest.raises(PartError) as caught:
            way(QUESTION, name) if way is ask else way(name, QUESTION)
        assert_one_sentence(caught.value, "VLLM_API_KEY", vllm.base_url)
        assert "wrong-key" not in str(caught.value)


def test_a_failure_may_end_in_sentences_of_the_documents(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(api_key=SecretStr("wrong-key")), fallback="extractive")
    found = plain(name, QUESTION)
    assert found.mode == "extractive"
    assert found.tokens == {}
    assert all(
        one.quote in hit.text for one in found.citations for hit in found.passages if hit.chunk_id == one.chunk_id
    )
    (note,) = found.notes
    assert "the chat model failed" in note
    assert_one_sentence(note, "VLLM_API_KEY", vllm.base_url)


def test_a_model_that_is_not_served_is_named(library: Library, vllm: VllmServer) -> None:
    name = library.pipeline(vllm.chat_model(model="no-such-model"))
    with pytest.raises(PartError) as caught:
        plain(name, QUESTION)
    assert_one_sentence(caught.value, "no-such-model", "LLM_MODEL")


def test_without_a_name_the_served_model_is_taken(library: Library, vllm: VllmServer, exchanges: Exchanges) -> None:
    for model in (None, "", SERVED):
        plain(library.pipeline(vllm.chat_model(model=model)), QUESTION)
    assert [one.sent["model"] for one in exchanges] == [SERVED] * 3


def test_the_passages_may_come_from_anywhere(vllm: VllmServer, name: str) -> None:
    """`ask_model` is what callers with passages of their own use."""
    hits = [Hit(f"id-{n}", f"{n}.md", 0.5, f"Text of number {n}.", "", None) for n in range(1, 4)]
    settings = load_pipeline(name).settings.model_copy(update={"answers": "marked", "max_answer_tokens": SHORT})
    reply = ask_model(vllm.chat_model(), QUESTION, hits, settings)
    assert any(draft.statement for draft in reply.drafts)
    assert reply.passages == tuple(hits)
    assert reply.tokens["completion"] > 0


def test_the_command_answers_or_says_in_a_sentence_why_not(
    library: Library, vllm: VllmServer, command: Command
) -> None:
    done = command("ask", QUESTION, "--json", "--strict")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mode"] in ("generated", "abstained")
    assert found["tokens"]["completion"] > 0
    assert all(one["verified"] for one in (*found["claims"], *found["citations"]))
    stranger = library.pipeline(vllm.chat_model(api_key=SecretStr("wrong-key")))
    refused = command("ask", QUESTION, "--no-cache", "--pipeline", stranger)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert_one_sentence(refused.stderr.strip(), "VLLM_API_KEY")
    assert "wrong-key" not in refused.stderr
