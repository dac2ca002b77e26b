"""How many tokens passages take, and which of them fit: counted by the chat server, else estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasks.fence import neutral

if TYPE_CHECKING:
    from tasks.models import Hit

BYTES_PER_TOKEN = 3
"""A high estimate of the tokens, whatever the chat model: English has about four bytes a token, Chinese three."""

Count = Callable[[str], int | None]
"""Returns how many tokens a text is, or None when nobody can say."""


def estimated(text: str) -> int:
    """Return how many tokens a text is at the most, nearly always."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def shown(hit: Hit) -> str:
    """Return what of a passage stands in the prompt."""
    return neutral(f"{hit.key} › {hit.heading}\n{hit.text}")


def fitting(hits: Sequence[Hit], tokens: int, count: Count = lambda _: None) -> tuple[Hit, ...]:
    """Return the best-ranked hits that fit into so many tokens, at least one.

    The first that does not fit ends them: none is shown in place of a better one.
    """
    texts = [shown(hit) for hit in hits]
    whole = count("\n".join(texts)) if len(texts) > 1 else 0
    if whole is not None and whole <= tokens:
        return tuple(hits)
    room = tokens
    for kept, text in enumerate(texts):
        size = None if whole is None else count(text)
        room -= estimated(text) if size is None else size
        if kept and room < 0:
            return tuple(hits[:kept])
    return tuple(hits)
