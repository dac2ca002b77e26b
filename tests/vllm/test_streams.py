"""Answers of the real vLLM that are read while they are written, and servers that die meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.ask import ask
from tasks.citations.verify import UNVERIFIED
from tasks.errors import TransientError
from tasks.listeners import reader
from tasks.models import Answer
from tests.vllm.checks import assert_one_sentence, plain
from tests.vllm.conftest import Command, Exchanges, Library, VllmServer
from tests.vllm.test_answers import ANSWERS

QUESTION = "What is a generation?"
ENDLESS = 3500
"""Tokens that take the slow model half a minute: many times longer than it takes to kill its server."""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[VllmServer]:
    """A vLLM that may be killed, whose answers do not end before."""
    server = VllmServer(tmp_path, slow=True)
    server.start()
    yield server
    server.stop()


@contextmanager
def listening(read: Callable[[str], None]) -> Iterator[None]:
    """Have what is written inside, in this thread, read piece by piece."""
    token = reader.set(lambda piece: read(piece.text))
    try:
        yield
    finally:
        reader.reset(token)


@pytest.mark.parametrize(
    "changed",
    [{}, {"strict": True}, {"answers": "marked", "max_answer_tokens": 512}, {"stages": 2, "max_answer_tokens": 192}],
    ids=["structured", "strict", "marked", "two-stages"],
)
def test_the_pieces_that_are_told_are_the_answer(
    name: str, exchanges: Exchanges, questions: list[str], changed: dict[str, object]
) -> None:
    def one(question: str) -> tuple[Answer, list[str]]:
        told: list[str] = []
        with listening(told.append):
            return plain(name, question, **changed), told

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(one, questions[: max(12, ANSWERS // 8)]))
    for found, told in answers:
        if found.mode == "generated":
            assert "".join(told).strip() == found.answer
        else:
            assert told == []
        assert found.tokens["completion"] > 0, "a stream ends with its usage"
        assert not (changed.get("strict") and UNVERIFIED in found.answer)
    if not changed.get("strict"):  # noise seldom says what can be verified
        assert any(told for _, told in answers)
    streamed = [bool(one.sent.get("stream")) for one in exchanges]
    assert streamed == [changed.get("stages") != 2] * len(exchanges)


def test_a_flow_may_be_listened_to(name: str) -> None:
    told: list[str] = []
    with listening(told.append):
        found = ask(QUESTION, name)
    assert found.mode == "abstained" or "".join(told).strip() == found.answer


def test_the_command_prints_what_comes(library: Library, vllm: VllmServer, command: Command) -> None:
    name = library.pipeline(vllm.chat_model(), answers="marked", max_answer_tokens=256)
    done = command("ask", QUESTION, "--stream", "--pipeline", name)
    assert done.returncode == 0, done.stderr
    text, _, rest = done.stdout.partition("mode: ")
    assert rest.startswith("generated")
    assert text.strip()
    assert done.stdout.count("mode: ") == 1


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_broke_off(error: BaseException | None, told: list[str], url: str) -> None:
    assert told, "it was killed after the first piece"
    assert isinstance(error, TransientError)
    assert_one_sentence(error, "broke off", "not the whole answer", url)


def assert_down(error: BaseException | None, url: str) -> None:
    assert isinstance(error, TransientError)
    assert_one_sentence(error, "does not answer", "VLLM_BASE_URL", url)


@pytest.mark.long  # that an answer which breaks off is told is shown over HTTP; here a server of its own takes minutes
def test_a_server_killed_while_it_writes_is_named_and_may_come_back(
    library: Library, mortal: VllmServer, command: Command
) -> None:
    """Of those that listen, one takes the error and one extracted sentences; others wait for the whole answer."""
    endless = {"answers": "marked", "top_k": 1, "max_answer_tokens": ENDLESS}
    name = library.pipeline(mortal.chat_model(), **endless)
    told: dict[str, list[str]] = {"none": [], "extractive": []}

    def listened(fallback: str) -> Answer:
        with listening(told[fallback].append):
            return plain(name, QUESTION, fallback=fallback)

    threads = ThreadPoolExecutor(6)
    process = command.start("ask", QUESTION, "--stream", "--pipeline", name)
    try:
        printed = threads.submit(process.stdout.read, 1) if process.stdout else Future[str]()
        assert printed.result(180), "the command prints the first piece while the others are not written"
        heard = {fallback: threads.submit(listened, fallback) for fallback in told}
        wait_until(lambda: all(told.values()))
        waiting = [threads.submit(plain, name, QUESTION) for _ in range(2)]
        time.sleep(0.5)  # they are on their way, or about to be: what they are told is the same
        mortal.kill()
        for one in waiting:
            assert_down(one.exception(60), mortal.base_url)
        assert_broke_off(heard["none"].exception(60), told["none"], mortal.base_url)
        extracted = heard["extractive"].result(60)
        assert extracted.mode == "extractive"
        assert "the chat model failed" in extracted.notes[0]
        assert extracted.answer not in "".join(told["extractive"])
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert_one_sentence(stderr.strip(), "broke off", "not the whole answer")
        with pytest.raises(TransientError) as caught:
            ask(QUESTION, name)
        assert_down(caught.value, mortal.base_url)
        assert plain(name, QUESTION, fallback="extractive").mode == "extractive"
    finally:
        process.kill()
        threads.shutdown(wait=False)
        mortal.stop()
    mortal.start()
    assert plain(name, QUESTION, max_answer_tokens=64).mode == "generated"
