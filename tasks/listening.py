"""Hand an answer on while it is being written, to whoever listens in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

reader: ContextVar[Callable[[str], None] | None] = ContextVar("reader", default=None)
"""Is given each piece of an answer once it is checked; set by the command."""
