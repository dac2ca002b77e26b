"""A prompt that fits the chat model, whatever its tokenizer makes of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.budget import A_FENCE
from tasks.chat import Chat
from tasks.fit import OF_TEMPLATE, within
from tasks.models import Hit
from tasks.prompt import Prompt, build

ANSWER = 100


def chat(window: int, a_fence: int) -> Chat:
    """A chat server that takes a word for a token, and the name of a prompt's own fence for ``a_fence`` tokens."""

    def count(text: str) -> int:
        own = 0 if A_FENCE in text else text.count("</passage-")
        return len(text.split()) + own * a_fence

    settings = SimpleNamespace(context_tokens=10_000, max_answer_tokens=ANSWER)
    return cast(Chat, SimpleNamespace(settings=settings, window=window, count=count))


def size(asked: Any, hits: Sequence[Hit]) -> int:
    return int(asked.count("\n".join(message["content"] for message in made(hits).messages)))


def made(hits: Sequence[Hit]) -> Prompt:
    return build("Which?", hits)


@pytest.mark.parametrize("a_fence", [0, 5, 200])
def test_what_is_left_of_a_prompt_fits_as_a_whole(a_fence: int) -> None:
    """Passages are counted one by one, and may take more in the prompt: its fence has a name of its own."""
    hits = [Hit(f"c{n}", "a.md", 1 - n / 100, "word " * 40, "", None) for n in range(30)]
    asked = chat(window=1000, a_fence=a_fence)
    shown = within(asked, hits, made)
    room = 1000 - ANSWER - OF_TEMPLATE
    assert size(asked, hits) > room, "it has to be cut"
    assert size(asked, shown) <= room
    assert list(shown) == hits[: len(shown)]
    if a_fence == 0:
        assert size(asked, hits[: len(shown) + 2]) > room, "as many as fit, but for what separates them"


def test_one_passage_stays_however_long_it_is() -> None:
    hits = [Hit(f"c{n}", "a.md", 0.5, "word " * 2000, "", None) for n in range(3)]
    assert list(within(chat(window=1000, a_fence=5), hits, made)) == hits[:1]
