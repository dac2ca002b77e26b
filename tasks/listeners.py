"""Report the progress of a run to the listeners in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from tasks.models import Checked


class Listener(Protocol):
    """An object that shows progress, such as a progress bar."""

    def listed(self, objects: int) -> None:
        """Show how many objects the listing has reached."""

    def planned(self, objects: int) -> None:
        """Show how many objects will be written or deleted."""

    def advanced(self, objects: int) -> None:
        """Show that this many more objects are done."""


class Silent:
    """A listener that shows nothing."""

    def listed(self, objects: int) -> None:
        """Show nothing."""

    def planned(self, objects: int) -> None:
        """Show nothing."""

    def advanced(self, objects: int) -> None:
        """Show nothing."""


listener: ContextVar[Listener] = ContextVar("listener", default=Silent())  # noqa: B039 - it has no state
"""The listener that shows the progress of flows called from here. The command sets it."""


reader: ContextVar[Callable[[Checked], None] | None] = ContextVar("reader", default=None)
"""The function that receives each piece of an answer once it is checked. The command and the service set it."""


class Stop:
    """A sign, for any thread, that nobody waits for an answer any more. It ends what the answer waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._ends: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Return whether the sign was given."""
        return self._set

    def set(self) -> None:
        """Give the sign. It may be given from any thread, and more than once."""
        with self._lock:
            self._set, ends = True, tuple(self._ends)
        for end in ends:
            end()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end`` when the sign is given inside, or was given before."""
        with self._lock:
            self._ends.append(end)
            given = self._set
        if given:
            end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


stop: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""The sign that nobody waits any more for the answer that is made here. The service sets it."""
