"""Take notifications in: every receiver hands its bodies to an inbox, and acknowledges them once that has returned."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments.watch.notifications import NotificationError, read_notification
from tasks.ledger.changes import WHOLE_BUCKET, record_changes
from tasks.retries import patiently
from tasks.sanitize import inert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocks.s3_source import S3Source
    from tasks.ledger.database import Database

SHOWN = 2000
"""Characters of a body that the log shows."""

logger = logging.getLogger("lockstep.watch")
dead_letters = logging.getLogger("lockstep.watch.unreadable")
"""What nobody could read, with its first characters: a sender would send it again for ever if it were refused."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a body: the keys of this pipeline that it names, those not waiting already, and the unread parts."""

    named: int = 0
    new: int = 0
    unreadable: int = 0


class Inbox:
    """Records the keys of one pipeline that notifications name, for the next sync."""

    def __init__(self, ledger: Database, alias: str, source: S3Source) -> None:
        self._ledger, self._alias, self._source = ledger, alias, source

    def take(self, body: bytes, sender: str) -> Taken:
        """Record what a body names. Return only when the ledger has it, so that the sender may forget it.

        A body that cannot be read goes to the log of dead letters. Raises ``TransientError`` or ``PartError`` if the
        ledger does not take the keys: then the sender must keep the body.
        """
        try:
            mentions = read_notification(body)
        except NotificationError as error:
            self._put_aside(body, sender, str(error))
            return Taken(unreadable=1)
        for url in mentions.confirmations:
            logger.warning("%s asks for a confirmation of its subscription. Open this address once: %s", sender, url)
        if mentions.unreadable:
            self._put_aside(body, sender, f"{mentions.unreadable:,} parts: {'; '.join(mentions.reasons)}")
        keys = {one.key for one in mentions.objects if one.bucket == self._source.bucket}
        named = {key for key in keys if key.startswith(self._source.prefix)}
        if self._source.bucket in mentions.relist:
            named.add(WHOLE_BUCKET)
        return Taken(len(named), self.add(named), mentions.unreadable)

    def add(self, keys: Iterable[str]) -> int:
        """Record keys for the next sync. Return the number of those that were not waiting already."""
        named = set(keys)
        return patiently(record_changes)(self._ledger, self._alias, named) if named else 0

    def _put_aside(self, body: bytes, sender: str, reason: str) -> None:
        shown = inert(body[:SHOWN].decode("utf-8", "replace"))
        dead_letters.warning(
            "a notification from %s cannot be read (%s). Its objects are found by the next whole listing. It has %s "
            "bytes and begins: %s",
            sender, reason, f"{len(body):,}", shown,
        )  # fmt: skip
