"""Add up what the batches of a sync came to, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.batches import Stage
    from tasks.prune import Outcome

CHANGES_KEPT = 100


class Tally:
    """The sums over all batches so far, and the first objects that were written or deleted.

    ``changes`` holds (stage, key, chunks); at most 100, for the report.
    """

    def __init__(self) -> None:
        self.chunks_embedded = self.chunks_reused = self.chunks_deleted = self.moved_on = self.batches = 0
        self.changes: list[tuple[Stage, str, int]] = []

    def add(self, stage: Stage, outcome: Outcome) -> None:
        """Add one batch."""
        self.batches += 1
        self.chunks_embedded += outcome.chunks_embedded
        self.chunks_reused += outcome.chunks_reused
        self.chunks_deleted += outcome.chunks_deleted
        self.moved_on += outcome.moved_on
        room = CHANGES_KEPT - len(self.changes)
        self.changes += [(stage, key, chunks) for key, chunks in outcome.done[:room]]
