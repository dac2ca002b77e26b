"""When so much of a sync has failed that the files are not to blame."""

from __future__ import annotations

import pytest

from blocks.settings import Settings
from tasks.errors import OutageError
from tasks.indexing.outcome import CHANGES_KEPT, Outcome, Tally
from tasks.models import Failure, ObjectRef


def failures(count: int) -> tuple[Failure, ...]:
    return tuple(Failure(ObjectRef(f"k{n}", "e1", 1, 0), f"reason {n}") for n in range(count))


@pytest.mark.parametrize(
    ("wanted", "failed", "stops"),
    [
        (100, 20, False),  # just the share that is allowed
        (100, 21, True),
        (10, 4, False),  # fewer than five are no sign, whatever the share
        (10, 5, True),
        (5, 5, True),
        (4, 4, False),
        (1000, 200, False),
        (1000, 201, True),
    ],
)
def test_more_than_the_allowed_share_stops_the_run(wanted: int, failed: int, stops: bool) -> None:
    settings = Settings(max_failed_share=0.2, max_failed_least=5)
    done = Tally(wanted)
    for one in failures(failed):
        done.add("written", Outcome(failures=(one,), suspicious=(one,)))
    if not stops:
        done.check(settings)
        return
    with pytest.raises(OutageError, match=rf"{failed} of {wanted} objects .* 20%.*The first was 'k0': reason 0"):
        done.check(settings)


def test_only_what_may_be_the_sign_of_an_outage_counts() -> None:
    done = Tally(10)
    done.add("written", Outcome(failures=failures(10)))
    done.check(Settings(max_failed_share=0.0, max_failed_least=1))


def test_batches_add_up_and_the_first_changes_are_kept() -> None:
    done = Tally(1)
    changes = tuple((f"k{n}", n) for n in range(60))
    for _ in range(2):
        done.add("written", Outcome(changes, chunks_embedded=1, chunks_reused=2, chunks_deleted=3, moved_on=4))
    assert (done.chunks_embedded, done.chunks_reused, done.chunks_deleted, done.moved_on, done.batches) == (
        2,
        4,
        6,
        8,
        2,
    )
    assert len(done.changes) == CHANGES_KEPT
    assert done.changes[60] == ("written", "k0", 0)
