"""Take notifications in: every receiver hands its bodies to an inbox, and acknowledges them once that has returned."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments.watch.notifications import Mentions, NotificationError, read_notification
from tasks.ledger.changes import WHOLE_BUCKET, record_changes
from tasks.retries import patiently
from tasks.sanitize import inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks.s3_source import S3Source
    from tasks.ledger.database import Database

SHOWN = 2000
"""Characters of a body that the log shows."""

logger = logging.getLogger("lockstep.watch")
dead_letters = logging.getLogger("lockstep.watch.unreadable")
"""What nobody could read, with its first characters: a sender would send it again for ever if it were refused."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a body: the keys of this pipeline that it names, those not waiting already, and the unread parts.

    Of bodies that are taken together, the first one's ``new`` is that of all.
    """

    named: int = 0
    new: int = 0
    unreadable: int = 0

    @property
    def outcome(self) -> str:
        """What the metric calls it."""
        return "unreadable" if self.unreadable else "recorded" if self.named else "nothing"


class Inbox:
    """Records the keys of one pipeline that notifications name, for the next sync."""

    def __init__(self, ledger: Database, alias: str, source: S3Source) -> None:
        self._ledger, self._alias, self._source = ledger, alias, source

    def take(self, body: bytes, sender: str) -> Taken:
        """Record what a body names. Return only when the ledger has it, so that the sender may forget it.

        A body that cannot be read goes to the log of dead letters. Raises ``TransientError`` or ``PartError`` if the
        ledger does not take the keys: then the sender must keep the body. The ledger is asked once, since whoever
        receives the body can try again, and can stop.
        """
        return self.take_all([body], sender)[0]

    def take_all(self, bodies: Sequence[bytes], sender: str) -> list[Taken]:
        """Record what several bodies name, in one transaction. Otherwise the same as ``take``."""
        read = [self._read(body, sender) for body in bodies]
        names = [self._names(mentions) for mentions in read]
        together = set[str]().union(*names)
        new = record_changes(self._ledger, self._alias, together) if together else 0
        return [
            Taken(len(named), new if position == 0 else 0, mentions.unreadable)
            for position, (mentions, named) in enumerate(zip(read, names, strict=True))
        ]

    def add(self, keys: Iterable[str]) -> int:
        """Record keys for the next sync. Return the number of those that were not waiting already."""
        named = set(keys)
        return patiently(record_changes)(self._ledger, self._alias, named) if named else 0

    def _read(self, body: bytes, sender: str) -> Mentions:
        """Return what a body mentions. What cannot be read is put aside, and shown is what a person has to do."""
        try:
            mentions = read_notification(body)
        except NotificationError as error:
            self._put_aside(body, sender, str(error))
            return Mentions(unreadable=1)
        except Exception as error:  # a mistake of ours must not stop what comes behind this body
            logger.exception("a notification from %s led to an unexpected error", sender)
            self._put_aside(body, sender, f"unexpected: {type(error).__name__}")
            return Mentions(unreadable=1)
        for url in mentions.confirmations:
            logger.warning("%s asks for a confirmation of its subscription. Open this address once: %s", sender, url)
        if mentions.unreadable:
            self._put_aside(body, sender, f"{mentions.unreadable:,} parts: {'; '.join(mentions.reasons)}")
        return mentions

    def _names(self, mentions: Mentions) -> set[str]:
        keys = {one.key for one in mentions.objects if one.bucket == self._source.bucket}
        named = {key for key in keys if key.startswith(self._source.prefix)}
        return named | {WHOLE_BUCKET} if self._source.bucket in mentions.relist else named

    def _put_aside(self, body: bytes, sender: str, reason: str) -> None:
        shown = inert(body[:SHOWN].decode("utf-8", "replace"))
        dead_letters.warning(
            "a notification from %s cannot be read (%s). Its objects are found by the next whole listing. It has %s "
            "bytes and begins: %s",
            sender, reason, f"{len(body):,}", shown,
        )  # fmt: skip
