"""How many tokens passages take, and which of them fit: counted by the chat server, else estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasks.answers.fence import fenced

if TYPE_CHECKING:
    from tasks.models import Hit

BYTES_PER_TOKEN = 3
"""A high estimate of the tokens, whatever the chat model: English has about four bytes a token, Chinese three."""
A_FENCE = "passage-0123456789ab"

Count = Callable[[str], int | None]
"""Returns how many tokens a text is, or None when nobody can say."""


def estimated(text: str) -> int:
    """Return how many tokens a text is at the most, nearly always."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def shown(hit: Hit) -> str:
    """Return what a passage adds to a prompt."""
    return fenced(1, hit, A_FENCE)


def fitting(hits: Sequence[Hit], tokens: int, count: Count = estimated) -> tuple[Hit, ...]:
    """Return the best-ranked hits that fit into so many tokens, at least one.

    The first that does not fit ends them: none is shown in place of a better one.
    """
    room = tokens
    for kept, hit in enumerate(hits):
        text = shown(hit)
        size = count(text)
        room -= estimated(text) if size is None else size
        if kept and room < 0:
            return tuple(hits[:kept])
    return tuple(hits)
