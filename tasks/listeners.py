"""Progress of a run and pieces of an answer, for listeners in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol


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


reader: ContextVar[Callable[[str], None] | None] = ContextVar("reader", default=None)
"""Is given each piece of an answer once it is checked; set by the command."""
