"""Split a text into sentences that can be quoted word for word."""

from __future__ import annotations

import re

SENTENCE = re.compile(r".+?(?:(?<![.!?])[.!?]++[\"')\]»”]*+(?=\s|\Z)|[。！？]+|\n+|\Z)", re.DOTALL)
SHORTEST = 12


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text, each a verbatim part of it, stripped.

    Fragments under 12 characters are left out, because they answer nothing by themselves.
    """
    found = (match.strip() for match in SENTENCE.findall(text))
    return [sentence for sentence in found if len(sentence) >= SHORTEST]
