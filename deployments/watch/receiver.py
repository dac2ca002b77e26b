"""A receiver fetches notifications from a queue while the watcher runs, whatever the queue and the ledger do."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tasks import metrics
from tasks.errors import LockstepError

if TYPE_CHECKING:
    import threading

    from deployments.watch.inbox import Inbox

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds between tries while the queue or the ledger is away: at first, and at the most."""
CONNECTED = "connected"

logger = logging.getLogger("lockstep.watch")


class Receiver(Protocol):
    """Fetches notifications until it is told to stop."""

    name: str
    """What it receives from, for people."""

    @property
    def state(self) -> str:
        """How it fares, for people: `connected`, or `waiting: …` with the reason and the time since when."""

    def run(self, stop: threading.Event) -> None:
        """Receive until ``stop`` is set. Raises nothing."""


class PatientReceiver(ABC):
    """A receiver that tries again for ever, ever more seldom, and logs a line when its state changes."""

    kind: str
    """What the metric calls it."""

    def __init__(self, name: str, inbox: Inbox) -> None:
        self.name, self._inbox = name, inbox
        self.state = "not started"
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Receive until ``stop`` is set. Raises nothing."""
        wait = FIRST_WAIT
        while not stop.is_set():
            try:
                self.receive()
            except Exception as error:  # noqa: BLE001 - a receiver that ends is noticed too late
                self._wait_for(error)
                stop.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                wait = FIRST_WAIT
                self._connect()
        try:
            self.close()
        except Exception as error:  # noqa: BLE001 - the queue may be away; it then gives the messages out by itself
            logger.debug("%s: not closed properly (%s)", self.name, type(error).__name__)
        self.state = "stopped"

    @abstractmethod
    def receive(self) -> None:
        """Fetch what is there, wait a little if there is nothing, and acknowledge what the ledger has.

        Raises whatever goes wrong. What was fetched and not acknowledged must come again.
        """

    @abstractmethod
    def close(self) -> None:
        """Hand back what was not acknowledged, and close the connection."""

    @abstractmethod
    def explain(self, error: Exception) -> tuple[str, str]:
        """Return a short name for the trouble, which stays the same while it lasts, and a sentence for people."""

    def take(self, bodies: Sequence[bytes]) -> None:
        """Record what the bodies name. Raises ``TransientError`` or ``PartError``: then none is recorded."""
        for taken in self._inbox.take_all(bodies, self.name):
            metrics.NOTIFICATIONS.labels(self.kind, taken.outcome).inc()

    def _wait_for(self, error: Exception) -> None:
        if isinstance(error, LockstepError):
            message = str(error)
            trouble = message.partition(":")[0]
        else:
            trouble, message = self.explain(error)
        if trouble != self._trouble:
            self._trouble = trouble
            self.state = f"waiting: {message} (since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)"
            logger.warning("%s: %s", self.name, self.state)

    def _connect(self) -> None:
        if self.state != CONNECTED:
            self.state, self._trouble = CONNECTED, ""
            logger.info("%s: connected", self.name)
