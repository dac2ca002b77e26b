"""What an answer has to pass before it leaves: personal data is masked, and the moderation is asked.

Masked pieces of a streamed answer leave as they come, each masked by itself. The moderation judges whole answers, so
with it nothing is streamed: an answer is told once it has passed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks import metrics
from tasks.answers.cache import CachedAnswer
from tasks.guards.moderation import moderated
from tasks.guards.personal_data import in_words, masked
from tasks.models import Checked

if TYPE_CHECKING:
    from blocks.chat_model import ChatModel
    from blocks.settings import Settings

WITHHELD = "This answer is withheld."
WITHHELD_NOTE = "the moderation flagged the answer: {categories}"
MASKED_NOTE = "personal data in the answer is masked: {kinds}"


def holds_stream(settings: Settings) -> bool:
    """Return whether an answer may be told only as a whole."""
    return bool(settings.moderation_url)


def release(written: CachedAnswer, settings: Settings, chat: ChatModel | None) -> CachedAnswer:
    """Return an answer as it may leave: masked; or, if the moderation flags it, an abstention that says so."""
    if written.mode == "abstained":  # these are our own words
        return written
    piece, kinds = masked_piece(Checked(written.text, written.claims, written.citations), settings)
    notes = (MASKED_NOTE.format(kinds=in_words(kinds)),) if kinds else ()
    verdict = moderated(piece.text, settings, chat)
    if verdict.categories:
        metrics.GUARDED.labels("moderation", "withheld").inc()
        note = WITHHELD_NOTE.format(categories=", ".join(verdict.categories))
        return CachedAnswer(WITHHELD, "abstained", tokens=written.tokens, notes=(note,))
    return replace(
        written, text=piece.text, claims=piece.claims, citations=piece.citations,
        notes=(*notes, *written.notes, *verdict.notes),
    )  # fmt: skip


def masked_piece(piece: Checked, settings: Settings) -> tuple[Checked, tuple[str, ...]]:
    """Return an answer, or a piece of one, without personal data, and the kinds that it had.

    Quotes and headings are masked as well: who may only ask would otherwise read there what the text hides. A citation
    still says which version of which object it quotes, and where, for those who may read that.
    """
    if settings.personal_data == "allow":
        return piece, ()
    text, kinds = masked(piece.text)
    claims = tuple(replace(claim, text=masked(claim.text)[0]) for claim in piece.claims)
    quotes = [masked(one.quote) for one in piece.citations]
    citations = tuple(
        replace(one, quote=quote, heading=masked(one.heading)[0])
        for one, (quote, _) in zip(piece.citations, quotes, strict=True)
    )
    every = dict.fromkeys([*kinds, *(kind for _, some in quotes for kind in some)])
    return Checked(text, claims, citations), tuple(every)
