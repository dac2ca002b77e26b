"""Questions, and the checks that they have to pass."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from tasks.errors import MisuseError

LONGEST = 10_000
SURROGATES = ("\ud800", "\udfff")
SPACES = "\t\n\r\x85"


@dataclass(frozen=True, slots=True)
class Question:
    """A question. ``id`` is its id in a file of questions; ``session`` says which questions one generation answers."""

    id: str
    question: str
    session: str = ""

    @property
    def asker(self) -> str:
        """What decides whether a canary answers."""
        return self.session or self.question


def checked(question: str) -> str:
    """Return the question, stripped.

    Raises ``MisuseError`` when it is empty, too long, not valid UTF-8, or has control characters.
    """
    question = question.strip()
    if not question:
        raise MisuseError("the question is empty. Ask one, for example: `lockstep ask 'How are deletes handled?'`")
    if len(question) > LONGEST:
        raise MisuseError(f"the question has {len(question):,} characters; the limit is {LONGEST:,}. Shorten it.")
    check_text("the question", question)
    for position, character in enumerate(question, start=1):
        kind = unicodedata.category(character)
        if kind == "Cc" and character not in SPACES:
            raise MisuseError(
                f"the question has a control character (U+{ord(character):04X}) at position {position:,}. Remove it."
            )
    return question


def check_text(what: str, text: str) -> None:
    """Raise ``MisuseError`` when a text has surrogates: Python decodes invalid UTF-8 to them."""
    low, high = SURROGATES
    position = next((at for at, one in enumerate(text, start=1) if low <= one <= high), 0)
    if position:
        raise MisuseError(f"{what} is not valid UTF-8 at character {position:,}. Send it as UTF-8 text.")
