"""Which passages fit into a prompt, and a prompt into the chat model, whatever its tokenizer makes of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.answers.context_window import A_FENCE, OF_TEMPLATE, fitted, fitting, shown, within
from tasks.answers.passages import BYTES_PER_TOKEN, estimated
from tasks.answers.prompt import Prompt, build
from tasks.chat.client import Chat
from tasks.chat.errors import TooLongError
from tasks.chat.response import ChatResponse
from tasks.models import Hit

ANSWER = 100


def hit(text: str, key: str = "a.md", heading: str = "") -> Hit:
    return Hit("c", key, 0.5, text, heading, None)


def hits(*sizes: int) -> list[Hit]:
    """Passages that are estimated at so many tokens."""
    rest = len(shown(hit("", key="")).encode())
    return [hit("x" * (BYTES_PER_TOKEN * size - rest), key="") for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "tokens", "kept"),
    [((), 100, 0), ((10,), 100, 1), ((999,), 100, 1), ((999, 10), 100, 1), ((33, 33, 34), 100, 3),
     ((33, 33, 35), 100, 2), ((33, 99, 10), 100, 1)],
)  # fmt: skip
def test_the_best_passages_that_fit_at_least_one(sizes: tuple[int, ...], tokens: int, kept: int) -> None:
    offered = hits(*sizes)
    assert fitting(offered, tokens) == tuple(offered[:kept])


def test_key_and_heading_take_room_too() -> None:
    offered = [hit("x" * 100, key="k"), hit("y" * 100, key="k" * 50, heading="h" * 49)]
    most = sum(estimated(shown(one)) for one in offered)
    assert len(fitting(offered, most)) == 2
    assert len(fitting(offered, most - 1)) == 1


def test_what_is_counted_holds_and_what_cannot_be_is_estimated() -> None:
    """A word a token: far fewer than is estimated."""
    offered = [hit("considerable verbosity " * 10, key=f"{n}") for n in range(4)]
    assert len(fitting(offered, 60)) == 1
    assert len(fitting(offered, 60, lambda text: len(text.split()))) == 2
    assert len(fitting(offered, 60, lambda _: None)) == 1


def test_a_script_without_spaces_is_not_taken_for_less_than_it_is() -> None:
    assert estimated("知识库" * 100) >= 300
    assert estimated("word " * 100) >= 100


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
    passages = [Hit(f"c{n}", "a.md", 1 - n / 100, "word " * 40, "", None) for n in range(30)]
    asked = chat(window=1000, a_fence=a_fence)
    left = within(asked, passages, made)
    room = 1000 - ANSWER - OF_TEMPLATE
    assert size(asked, passages) > room, "it has to be cut"
    assert size(asked, left) <= room
    assert list(left) == passages[: len(left)]
    if a_fence == 0:
        assert size(asked, passages[: len(left) + 2]) > room, "as many as fit, but for what separates them"


def test_one_passage_stays_however_long_it_is() -> None:
    passages = [Hit(f"c{n}", "a.md", 0.5, "word " * 2000, "", None) for n in range(3)]
    assert list(within(chat(window=1000, a_fence=5), passages, made)) == passages[:1]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_that_leaves_the_answer_no_room_is_cut_again(streamed: bool) -> None:
    """The server refuses what is longer than its context, and of what is nearly as long it cuts the answer.

    What was told already is not asked for again.
    """
    passages = [Hit(f"c{n}", "a.md", 1 - n / 100, "word " * 40, "", None) for n in range(10)]
    asked: list[int] = []

    def say(*_: Any) -> ChatResponse:
        asked.append(0)
        if len(asked) == 1:
            raise TooLongError("too long", room=900, prompt=1000)
        taken = {2: 1000, 3: 700}[len(asked)]
        return ChatResponse("an answer", taken > 900, {"prompt": taken})

    settings = SimpleNamespace(context_tokens=10_000, max_answer_tokens=ANSWER)
    server = cast(Chat, SimpleNamespace(settings=settings, window=None, count=lambda _: None, say=say))
    hearing = cast(Any, lambda _prompt: print) if streamed else None
    prompt, spoken, notes = fitted(server, passages, made, None, hearing)
    assert len(asked) == (2 if streamed else 3)
    assert spoken.cut is streamed
    assert len(prompt.passages) < len(passages)
    assert "too long for the model" in notes[0]
    assert (len(prompt.passages) == 8) is streamed
