"""What counts as a question."""

from __future__ import annotations

from tasks.errors import MisuseError

LONGEST = 10_000


def checked(question: str) -> str:
    """Return the question, stripped. Raises ``MisuseError`` when it is empty or absurdly long."""
    question = question.strip()
    if not question:
        raise MisuseError("the question is empty: ask something, as in `lockstep ask 'How are deletes handled?'`")
    if len(question) > LONGEST:
        raise MisuseError(f"the question has {len(question):,} characters; {LONGEST:,} are the most")
    return question
