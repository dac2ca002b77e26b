"""Answers of the real vLLM that are kept: the same question needs no second call until the index changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flows.ask import ask
from flows.sync import sync
from tasks.answers.answer import CACHED_NOTE
from tasks.answers.generate import CUT_NOTE
from tasks.models import Answer
from tests.vllm.checks import plain
from tests.vllm.conftest import Command, Exchanges, Library, VllmServer
from tests.vllm.tiny_model import DOCS


@pytest.fixture
def small(make_library: Callable[[Sequence[Path]], Library]) -> Library:
    """An index that a test may change."""
    return make_library([DOCS / "concepts.md"])


def whole(name: str) -> Answer:
    """Ask until an answer comes to its end: noise need not, and what was cut off is not kept."""
    for number in itertools.count():
        found = plain(name, f"What is a generation? (No. {number})")
        if CUT_NOTE not in found.notes:
            return found
    raise AssertionError


def as_kept(found: Answer) -> Answer:
    """Return an answer as a later question gets it."""
    return replace(found, cached=True, tokens={}, notes=(*found.notes, CACHED_NOTE), seconds={}, flow_run_id="")


def test_an_answer_is_kept_until_the_index_changes(small: Library, vllm: VllmServer, exchanges: Exchanges) -> None:
    name = small.pipeline(vllm.chat_model(), cache_seconds=3600)
    first = whole(name)
    question = first.question

    def calls() -> int:
        return len(exchanges.about(question))

    assert (first.cached, calls()) == (False, 1)
    for again in (plain(name, question), ask(question, name)):
        assert replace(again, seconds={}, flow_run_id="") == as_kept(first)
    sync(name)
    assert plain(name, question).cached, "a sync without a change"
    assert calls() == 1
    assert not plain(name, question, cache_seconds=0.0).cached
    assert calls() == 2, "asked not to take what was kept"
    assert not plain(name, question, top_p=0.9).cached
    assert calls() == 3, "asked with another setting"
    small.bucket.put("guides/new.md", "# Whales\n\nA whale breathes air, and dives for an hour.\n")
    sync(name)
    assert not plain(name, question).cached
    assert calls() == 4


def test_an_answer_that_was_cut_off_is_written_anew(name: str, exchanges: Exchanges) -> None:
    for _ in range(2):
        found = plain(name, "What is cut off?", cache_seconds=3600.0, answers="marked", max_answer_tokens=64)
        assert CUT_NOTE in found.notes
        assert not found.cached
    assert len(exchanges) == 2


def test_the_command_keeps_answers(command: Command) -> None:
    def asked(question: str, *options: str) -> dict[str, object]:
        done = command("ask", question, "--json", *options)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def numbered() -> Iterator[tuple[str, dict[str, object]]]:
        for number in itertools.count():
            yield (question := f"What is a generation? (No. {number})"), asked(question)

    question, first = next((question, found) for question, found in numbered() if CUT_NOTE not in str(found["notes"]))
    again = asked(question)
    assert (first["cached"], again["cached"]) == (False, True)
    assert again["tokens"] == {}
    assert [again[name] for name in ("answer", "claims", "citations")] == [
        first[name] for name in ("answer", "claims", "citations")
    ]
    anew = asked(question, "--no-cache")
    assert anew["cached"] is False
    assert anew["tokens"] != {}
