"""Progress of a run and pieces of an answer, for listeners in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from tasks.models import Checked


class Listener(Protocol):
    """Somebody who shows progress, such as a progress bar."""

    def listed(self, objects: int) -> None:
        """The listing has come to this many objects."""

    def planned(self, objects: int) -> None:
        """This many objects are to be written or deleted."""

    def advanced(self, objects: int) -> None:
        """So many more objects are done."""


class Silent:
    """A listener that shows nothing."""

    def listed(self, objects: int) -> None:
        """Show nothing."""

    def planned(self, objects: int) -> None:
        """Show nothing."""

    def advanced(self, objects: int) -> None:
        """Show nothing."""


listener: ContextVar[Listener] = ContextVar("listener", default=Silent())  # noqa: B039 - it has no state
"""Who shows the progress of flows called from here; set by the command."""


reader: ContextVar[Callable[[Checked], None] | None] = ContextVar("reader", default=None)
"""Is given each piece of an answer once it is checked; set by the command and the service."""


class Stop:
    """Says that nobody waits for an answer any more, and ends what is being waited for. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._ends: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Return whether it was said."""
        return self._set

    def set(self) -> None:
        """Say it; from any thread, and as often as you like."""
        with self._lock:
            self._set, ends = True, tuple(self._ends)
        for end in ends:
            end()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have ``end`` called when it is said inside, or was said before."""
        with self._lock:
            self._ends.append(end)
            said = self._set
        if said:
            end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


stop: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""Whether anybody still waits for the answer that is being made here; set by the service."""
