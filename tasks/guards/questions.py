"""What a question has to pass before anything is searched or asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks import metrics
from tasks.errors import MisuseError
from tasks.guards.moderation import moderated
from tasks.guards.personal_data import in_words, masked

if TYPE_CHECKING:
    from blocks.chat_model import ChatModel
    from blocks.settings import Settings

MASKED_NOTE = "personal data in the question was masked before anything was asked: {kinds}"


def admit(question: str, settings: Settings, chat: ChatModel | None) -> tuple[str, tuple[str, ...]]:
    """Return a question as it may be answered, and notes on it.

    Raises ``MisuseError`` for personal data where it is refused, and for what the moderation flags; the message names
    the kinds and categories, never the text. The moderation sees the question masked.
    """
    question, notes = without_personal_data(question, settings)
    return question, (*notes, *admit_moderated(question, settings, chat))


def without_personal_data(question: str, settings: Settings) -> tuple[str, tuple[str, ...]]:
    """Return a question without personal data, and a note if it had any. Raises ``MisuseError`` where it is refused."""
    if settings.personal_data == "allow":
        return question, ()
    text, kinds = masked(question)
    if not kinds:
        return question, ()
    if settings.personal_data == "refuse":
        metrics.GUARDED.labels("personal_data", "refused").inc()
        raise MisuseError(f"the question holds personal data, which is refused here: {in_words(kinds)}. Leave it out.")
    metrics.GUARDED.labels("personal_data", "masked").inc()
    return text, (MASKED_NOTE.format(kinds=in_words(kinds)),)


def admit_moderated(question: str, settings: Settings, chat: ChatModel | None) -> tuple[str, ...]:
    """Return notes on the moderation of a question. Raises ``MisuseError`` if it is flagged."""
    verdict = moderated(question, settings, chat)
    if verdict.categories:
        metrics.GUARDED.labels("moderation", "refused").inc()
        raise MisuseError(
            f"the moderation refused the question: {', '.join(verdict.categories)}. Ask it in other words."
        )
    return verdict.notes
