"""Read a chat server's response without trusting its form: the client passes on any JSON that it receives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

SHOWN = 300
_THOUGHT = re.compile(r"\A\s*+<think>(?:.*?</think>|.*\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """The model's answer to one call. ``cut`` says that it reached the token limit before its end."""

    text: str
    cut: bool
    tokens: dict[str, int] = field(default_factory=dict)


def short(error: object) -> str:
    """Return an error's message in one line of limited length, because a proxy may answer with a page of HTML."""
    words = " ".join(str(error).split())
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"


def first_model(models: Any) -> str:
    """Return the name of the first model that a server lists. Raises ``ValueError`` if it lists none."""
    listed = getattr(models, "data", None)
    name = getattr(listed[0], "id", None) if isinstance(listed, list) and listed else None
    if not isinstance(name, str):
        raise ValueError("it lists no models")
    return name


def whole(answer: Any) -> ChatResponse:
    """Return a response that was not streamed. Raises ``ValueError`` if it has no choices."""
    choice = choice_of(answer)
    if choice is None:
        raise ValueError(f"no choices in the response, which begins {short(answer)[:60]!r}")
    text = said_aloud(content_of(getattr(choice, "message", None)))
    return ChatResponse(text.strip(), getattr(choice, "finish_reason", None) == "length", tokens_of(answer))


def choice_of(of: Any) -> Any:
    """Return the first choice of a response or an event, or None if it has none."""
    choices = getattr(of, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def content_of(of: Any) -> str:
    """Return the text of a message or a part of one. Raises ``ValueError`` if its content is not text."""
    text = getattr(of, "content", None)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"its content is not text, it begins {short(text)[:60]!r}")
    return text or ""


def tokens_of(answer: Any) -> dict[str, int]:
    """Return the numbers of tokens that the server counted, as far as the response has them."""
    usage = getattr(answer, "usage", None)
    counts = {"prompt": getattr(usage, "prompt_tokens", None), "completion": getattr(usage, "completion_tokens", None)}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def said_aloud(text: str) -> str:
    """Return a model's text without its leading thoughts, and with lone surrogates replaced.

    While the thoughts have no end yet, the text is empty.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    thought = _THOUGHT.match(text)
    return text[thought.end() :] if thought else text
