"""Read a chat server's response without trusting its shape: the client passes on whatever JSON it receives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

SHOWN = 300
_THOUGHT = re.compile(r"\A\s*+<think>(?:.*?</think>|.*\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """What the model said in one call. ``cut`` when it came to the limit of tokens before its end."""

    text: str
    cut: bool
    tokens: dict[str, int] = field(default_factory=dict)


def short(error: object) -> str:
    """Return an error's words in one line: a proxy may answer with a page of HTML."""
    words = " ".join(str(error).split())
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"


def first_model(models: Any) -> str:
    """Return the name of the first model that a server lists. Raises ``ValueError`` when it lists none."""
    listed = getattr(models, "data", None)
    name = getattr(listed[0], "id", None) if isinstance(listed, list) and listed else None
    if not isinstance(name, str):
        raise ValueError("it lists no models")
    return name


def whole(answer: Any) -> ChatResponse:
    """Return what an answer that was not streamed says. Raises ``ValueError`` when it is none."""
    choice = choice_of(answer)
    if choice is None:
        raise ValueError(f"no choices in the answer, which begins {short(answer)[:60]!r}")
    text = said_aloud(content_of(getattr(choice, "message", None)))
    return ChatResponse(text.strip(), getattr(choice, "finish_reason", None) == "length", tokens_of(answer))


def choice_of(of: Any) -> Any:
    """Return the first choice of an answer or an event, None when it has none."""
    choices = getattr(of, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def content_of(of: Any) -> str:
    """Return the text of a message or a piece of one. Raises ``ValueError`` when it is no text."""
    text = getattr(of, "content", None)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"its content is no text, it begins {short(text)[:60]!r}")
    return text or ""


def tokens_of(answer: Any) -> dict[str, int]:
    """Return the token usage that the server reported, if it did."""
    usage = getattr(answer, "usage", None)
    counts = {"prompt": getattr(usage, "prompt_tokens", None), "completion": getattr(usage, "completion_tokens", None)}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def said_aloud(text: str) -> str:
    """Strip a model's reasoning and lone surrogates from its answer.

    Of thoughts that have no end yet nothing is said.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    thought = _THOUGHT.match(text)
    return text[thought.end() :] if thought else text
