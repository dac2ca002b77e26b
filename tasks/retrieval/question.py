"""Check that a text is a question that can be asked."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from tasks.errors import MisuseError

LONGEST = 10_000
SURROGATES = ("\ud800", "\udfff")
SPACES = "\t\n\r\x85"


@dataclass(frozen=True, slots=True)
class Question:
    """One question of many, and the name that its asker gave it."""

    id: str
    question: str


def checked(question: str) -> str:
    """Return the question, stripped.

    Raises ``MisuseError`` when it is empty, absurdly long, or no text: not UTF-8, or with control characters.
    """
    question = question.strip()
    if not question:
        raise MisuseError("the question is empty: ask something, as in `lockstep ask 'How are deletes handled?'`")
    if len(question) > LONGEST:
        raise MisuseError(f"the question has {len(question):,} characters; {LONGEST:,} are the most")
    check_text("the question", question)
    for position, character in enumerate(question, start=1):
        kind = unicodedata.category(character)
        if kind == "Cc" and character not in SPACES:
            raise MisuseError(
                f"the question holds a control character (U+{ord(character):04X}, its character {position:,}): "
                "leave it out"
            )
    return question


def check_text(what: str, text: str) -> None:
    """Raise ``MisuseError`` when a text is none: bytes that were not UTF-8 come as halves of characters."""
    low, high = SURROGATES
    position = next((at for at, one in enumerate(text, start=1) if low <= one <= high), 0)
    if position:
        raise MisuseError(f"{what} is not valid UTF-8 (its character {position:,}): send it as UTF-8 text")
