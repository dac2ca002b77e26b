"""Find changes by listing the bucket again and again: for servers that send no notifications, and for folders."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from tasks.bucket.listing import pages
from tasks.errors import LockstepError
from tasks.indexing.spot import spot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source
    from deployments.watch.inbox import Inbox
    from tasks.ledger.database import Database
    from tasks.milvus.store import Store

REMEMBERED_SECONDS = 300.0
"""For how long a version of a key is not named again: a sync may have left it to the next whole listing."""
MOST_REMEMBERED = 100_000

logger = logging.getLogger("lockstep.watch")


def pause_after(spent: float, least: float, share: float) -> float:
    """Return the seconds to wait after a listing of ``spent`` seconds, so that listings take ``share`` of the time."""
    return max(least, spent * (1 - share) / share)


class Poll:
    """Lists the bucket every few seconds, at most a share of the time, and names what differs from the ledger."""

    name = "poll"

    def __init__(
        self,
        client: S3Client,
        source: S3Source,
        ledger: Database,
        store: Store,
        inbox: Inbox,
        least: float,
        share: float,
    ) -> None:
        self.state = "not listed yet"
        self._client, self._source, self._ledger, self._store = client, source, ledger, store
        self._inbox, self._least, self._share = inbox, least, share
        self._named: dict[str, str] = {}
        self._forgets_at = time.monotonic() + REMEMBERED_SECONDS

    def run(self, stop: threading.Event) -> None:
        """List until ``stop`` is set."""
        while not stop.is_set():
            began, before = time.monotonic(), self.state
            try:
                number = self.look()
            except Exception as error:
                self.state = f"waits: {error}"
                if self.state != before:
                    told = isinstance(error, LockstepError)
                    logger.warning("the bucket is not listed: %s", error, exc_info=None if told else error)
            else:
                self.state = f"{number:,} objects listed"
            spent = time.monotonic() - began
            pause = pause_after(spent, self._least, self._share)
            self.state += f" in {spent:.1f} s, again after {pause:.0f} s" if "listed" in self.state else ""
            stop.wait(pause)

    def look(self) -> int:
        """List once, and name what changed. Return the number of listed objects."""
        collection = self._store.live()
        if collection is None:  # the first sync takes the whole bucket
            return 0
        if time.monotonic() > self._forgets_at or len(self._named) > MOST_REMEMBERED:
            self._named.clear()
            self._forgets_at = time.monotonic() + REMEMBERED_SECONDS
        listed = 0

        def counted() -> object:
            nonlocal listed
            for page in pages(self._client, self._source):
                listed += len(page)
                yield page

        for versions in spot(counted(), self._ledger, collection):  # type: ignore[arg-type]
            news = {key: version for key, version in versions.items() if self._named.get(key) != version}
            self._inbox.add(news)
            self._named |= news
        return listed
