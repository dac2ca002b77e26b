"""List several ranges of keys at once, and yield their pages as one listing would.

    keys      a … b   b … d   d … f   f …        cut at b, d and f
    fetched   ━━━━━   ━━━━━   ━━━━━              each by a thread, up to the first key past its end
    yielded   ━━━▶

No server is trusted to sort. The first key past a range's end has to be the first key of the next range: then
nothing lies between the two, whatever order the server lists in. If it is another key, the server does not go by keys,
or the bucket changed just there. Then the range is listed on to the end of the bucket, and the others are given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.errors import TransientError
    from tasks.models import ObjectRef

PAGES_AHEAD = 24
"""Pages of a range that wait to be read. The 20 of a range that did not grow fit, so its thread does not wait."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing: its keys, and the object of each one, None for a key that is not selected."""

    keys: list[str]
    refs: list[ObjectRef | None]

    def past(self, end: str | None) -> int | None:
        """Return the index of the first key past ``end``."""
        if end is None:
            return None
        return next((number for number, key in enumerate(self.keys) if key > end), None)

    def selected(self, stop: int | None = None) -> list[ObjectRef]:
        """Return the selected objects before the index ``stop``."""
        return [ref for ref in self.refs[:stop] if ref is not None]


class Range:
    """The pages of a listing up to the first key past ``end``, fetched ahead by a thread."""

    def __init__(self, listing: Iterator[Page], end: str | None) -> None:
        self.listing = listing
        self.end = end
        self._fetched: Queue[Page | None] = Queue(PAGES_AHEAD)
        self._closed = Event()
        self._error: Exception | None = None
        Thread(target=self._fetch, name=f"list to {end}", daemon=True).start()

    def _fetch(self) -> None:
        try:
            for page in self.listing:
                if self._closed.is_set():
                    return
                if page.keys:
                    self._fetched.put(page)
                if page.past(self.end) is not None:
                    break
        except Exception as error:  # noqa: BLE001 - the reader of the pages raises it
            self._error = error
        self._fetched.put(None)

    @cached_property
    def _first(self) -> Page | None:
        return self._fetched.get()

    def first_key(self) -> str | None:
        """Return the key that the range begins with, or None if it has none or cannot be listed."""
        return self._first.keys[0] if self._first else None

    def pages(self) -> Iterator[Page]:
        """Yield the fetched pages. Raises the error that stopped the thread. Afterwards the thread is done."""
        page = self._first
        while page is not None:
            yield page
            page = self._fetched.get()
        if self._error:
            raise self._error

    def go_on(self) -> Iterator[Page]:
        """Yield what the server lists after the page that has a key past the end: the thread left off there."""
        yield from self.listing

    def close(self) -> None:
        """End the thread: with the answer that it waits for, it fetches nothing more."""
        self._closed.set()
        try:
            while True:  # it may wait for room
                self._fetched.get_nowait()
        except Empty:
            pass


def list_ranges(
    listing_after: Callable[[str], Iterator[Page]],
    cuts: Sequence[str],
    at_once: int,
    broke_off: Callable[[str], TransientError],
) -> Generator[list[ObjectRef], None, None]:
    """Yield the selected objects of a listing, cut at ascending keys, ``at_once`` ranges at once.

    ``listing_after`` lists the bucket from behind a key on. Raises the error that ``broke_off`` makes of a sentence if
    a range ends the bucket before keys that the next one has.
    """
    if not cuts:
        for page in listing_after(""):
            yield page.selected()
        return
    spans = zip(["", *cuts], [*cuts, None], strict=True)
    ranges: deque[Range] = deque()

    def begin(number: int) -> None:
        ranges.extend(Range(listing_after(start), end) for start, end in islice(spans, number))

    try:
        begin(at_once)
        while ranges:
            current = ranges[0]
            for page in current.pages():
                past = page.past(current.end)
                if past is not None:
                    break
                yield page.selected()
            else:
                following = ranges[1].first_key() if len(ranges) > 1 else None
                if following and current.end and following > current.end:
                    raise broke_off(f"it ended before '{current.end}', and '{following}' comes after that")
                return
            if page.keys[past] != ranges[1].first_key():
                while len(ranges) > 1:
                    ranges.pop().close()
                yield page.selected()
                for rest in current.go_on():
                    yield rest.selected()
                return
            yield page.selected(past)
            ranges.popleft()
            begin(1)
    finally:
        for one in ranges:
            one.close()
