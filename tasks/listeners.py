"""Report the progress of a run to the listeners in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol


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


reader: ContextVar[Callable[[str], None] | None] = ContextVar("reader", default=None)
"""The function that receives each piece of an answer once it is checked. The command sets it."""
