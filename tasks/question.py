"""What counts as a question."""

from __future__ import annotations

import unicodedata

from tasks.errors import MisuseError

LONGEST = 10_000
SPACES = "\t\n\r\x85"


def checked(question: str) -> str:
    """Return the question, stripped.

    Raises ``MisuseError`` when it is empty, absurdly long, or no text: not UTF-8, or with control characters.
    """
    question = question.strip()
    if not question:
        raise MisuseError("the question is empty: ask something, as in `lockstep ask 'How are deletes handled?'`")
    if len(question) > LONGEST:
        raise MisuseError(f"the question has {len(question):,} characters; {LONGEST:,} are the most")
    for position, character in enumerate(question, start=1):
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise MisuseError(f"the question is not valid UTF-8 (its character {position:,}): send it as UTF-8 text")
        if kind == "Cc" and character not in SPACES:
            raise MisuseError(
                f"the question holds a control character (U+{ord(character):04X}, its character {position:,}): "
                "leave it out"
            )
    return question
