"""Sum up the outcomes of a sync's batches in bounded memory, and stop the sync when too many objects fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import OutageError
from tasks.models import Failure
from tasks.sanitize import inert

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.indexing.batches import Stage


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one batch: the written or deleted keys with their number of chunks, and the totals.

    ``failures`` go to quarantine. ``suspicious`` are those failures that may be signs of an outage.
    ``moved_on`` counts objects that wait for the next sync.
    """

    done: tuple[tuple[str, int], ...] = ()
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_deleted: int = 0
    failures: tuple[Failure, ...] = ()
    suspicious: tuple[Failure, ...] = ()
    moved_on: int = 0


CHANGES_KEPT = 100


class Tally:
    """The totals of all batches so far, and the first objects that were written or deleted.

    ``objects`` counts those that were worked on, whatever came of it.

    ``changes`` holds at most 100 tuples (stage, key, chunks) for the report. ``failed`` counts objects that may
    have failed because of an outage. ``wanted`` counts the objects to be written in the whole sync.
    """

    def __init__(self, wanted: int = 0) -> None:
        self.wanted = wanted
        self.chunks_embedded = self.chunks_reused = self.chunks_deleted = self.moved_on = self.batches = 0
        self.failed = self.objects = 0
        self.reason = ""
        self.changes: list[tuple[Stage, str, int]] = []

    def add(self, stage: Stage, outcome: Outcome) -> None:
        """Add one batch."""
        self.batches += 1
        self.objects += len(outcome.done) + len(outcome.failures) + outcome.moved_on
        self.chunks_embedded += outcome.chunks_embedded
        self.chunks_reused += outcome.chunks_reused
        self.chunks_deleted += outcome.chunks_deleted
        self.moved_on += outcome.moved_on
        self.failed += len(outcome.suspicious)
        for failure in outcome.suspicious[:1]:
            self.reason = self.reason or inert(f"'{failure.ref.key}': {failure.reason}")
        room = CHANGES_KEPT - len(self.changes)
        self.changes += [(stage, key, chunks) for key, chunks in outcome.done[:room]]

    def check(self, settings: Settings) -> None:
        """Raise ``OutageError`` when so many objects failed that an outage is more likely than bad files."""
        if self.failed >= settings.max_failed_least and self.failed > settings.max_failed_share * self.wanted:
            raise OutageError(
                f"{self.failed} of {self.wanted} objects could not be indexed, more than the allowed share of "
                f"{settings.max_failed_share:.0%}. A part is probably down. The first was {self.reason}. "
                "No object was put into quarantine, and the next syncs retry them. Objects that fail in a third sync "
                "go to quarantine. Objects that the bucket does not hand out go there after "
                f"{settings.withheld_hours:g} hours. If the files are bad, set LOCKSTEP_MAX_FAILED_SHARE=1 to "
                "quarantine them now."
            )
