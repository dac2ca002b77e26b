"""Compare the bucket with the ledger and record what has to be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from prefect import task

from tasks.bucket.errors import where
from tasks.bucket.listing import pages
from tasks.crash_points import crash_point
from tasks.errors import DeletionError
from tasks.generations.claims import keep_source
from tasks.generations.deletion_limit import stop, unasked
from tasks.ledger.database import now
from tasks.ledger.listed_keys import KEYS_NAMED, seen_keys
from tasks.ledger.objects import not_arrived, object_rows, record_deletions, record_wanted
from tasks.ledger.quarantine import retry_withheld
from tasks.limits import LeftOut
from tasks.models import Loss, ObjectRef
from tasks.retries import patiently
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger.database import Database
    from tasks.resources import Resources

COLUMNS = ["key", "etag", "size", "last_modified"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many objects there are to do, and how many are as they should be.

    ``left_out`` counts those that no row can be kept of, ``named`` says of the first few which, and why.
    """

    new: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    left_out: int = 0
    named: tuple[str, ...] = ()

    @property
    def todo(self) -> int:
        """Objects to write or delete."""
        return self.new + self.changed + self.deleted

    def __str__(self) -> str:
        """Return the plan as in run names: +12 ~3 -1."""
        return f"+{self.new} ~{self.changed} -{self.deleted}"


def frame(refs: Iterable[ObjectRef]) -> pd.DataFrame:
    """Return a page of a listing as a table of key, etag, size and last_modified."""
    return pd.DataFrame([asdict(ref) for ref in refs], columns=COLUMNS)


def diff(listing: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the listing with an ``action`` a row: 'new', 'changed' or 'unchanged'.

    ``ledger`` holds the rows of the same keys: key, state, etag, size, indexed_etag. An object is new
    until its first chunks are confirmed; it is unchanged when it was indexed or quarantined as it is now
    listed. Work that an earlier run left behind (pending, deleting) is never unchanged.
    """
    both = listing.merge(ledger, on="key", how="left", suffixes=("", "_known"))
    settled = both["state"].isin(["indexed", "quarantined"])
    same = settled & (both["etag"] == both["etag_known"]) & (both["size"] == both["size_known"])
    never_indexed = both["indexed_etag"].isna() & ~settled
    both["action"] = "changed"
    both.loc[never_indexed, "action"] = "new"
    both.loc[same, "action"] = "unchanged"
    return both[[*COLUMNS, "action"]]


def make_plan(
    listing: Iterable[list[ObjectRef]],
    ledger: Database,
    collection: str,
    flow_run_id: str,
    say: Callable[[int], None] = lambda _listed: None,
    agree: Callable[[Loss], None] = lambda _loss: None,
) -> Plan:
    """Record in the ledger what has to be written and deleted, a page at a time; returns the numbers.

    What is gone is only known, and recorded, when the whole listing has come through; ``agree`` is told before how much
    that is, and may raise.
    """
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    deleted = 0
    with seen_keys(ledger) as seen:
        for refs in listing:
            compared = diff(frame(refs), object_rows(ledger, collection, [ref.key for ref in refs]))
            for action, number in compared["action"].value_counts().items():
                counts[str(action)] += int(number)
            todo = set(compared.loc[compared["action"] != "unchanged", "key"])
            record_wanted(ledger, collection, [ref for ref in refs if ref.key in todo], flow_run_id)
            crash_point("wanted recorded")
            seen.add(refs)
            say(sum(counts.values()))
        agree(seen.loss(collection))
        for keys in seen.missing(collection):
            record_deletions(ledger, collection, keys, flow_run_id)
            crash_point("deletions recorded")
            deleted += len(keys)
    return Plan(counts["new"], counts["changed"], deleted, counts["unchanged"])


@patiently
def check_moved(resources: Resources, collection: str) -> None:
    """Raise ``DeletionError`` when many objects are to go that were moved, and not read where they are now.

    A listing may name keys that nobody can read: what it says was moved would be deleted, and come back nowhere.
    """
    if resources.consent.allow_deletions:
        return
    leaving, held = not_arrived(resources.ledger, collection)
    loss = Loss(held, len(leaving), held, tuple(leaving[:KEYS_NAMED]))
    if loss.lost > unasked(held, resources.settings):
        raise DeletionError(
            f"The listing of {where(resources.source)} says that {loss.lost:,} of the {held:,} objects that "
            f"{collection} holds were moved, but their new keys cannot be read. That is too many to delete unasked "
            f"(max_deleted_share {resources.settings.max_deleted_share:g}), so nothing was deleted and all of them "
            "still answer. Make the new keys readable. If the objects are meant to go, confirm it once: "
            "`lockstep sync --allow-deletions`, or the flow's parameter allow_deletions.",
            loss,
        )


@task(task_run_name="plan {collection}", **RETRIED)
def plan(resources: Resources, collection: str, again: bool = True) -> Plan:
    """List the bucket, compare it with the ledger, record the work. Returns the numbers.

    What the bucket did not hand out is tried ``again`` when it is time: it leaves the quarantine only once nothing
    stops this run from reading it. Raises ``DeletionError`` when more would be deleted than goes unasked, before any
    of that is recorded, and before the generation is said to hold this bucket.
    """

    def agree(loss: Loss) -> None:
        if not resources.consent.allow_deletions:
            accepted = resources.consent.accept_source
            stop(collection, loss, resources.source, resources.settings, accepted=accepted)
        keep_source(resources, collection)

    left_out = LeftOut()
    made = make_plan(
        pages(resources.s3, resources.source, left_out),
        resources.ledger,
        collection,
        resources.flow_run_id,
        resources.progress.listed,
        agree,
    )
    new, changed = retry_withheld(resources.ledger, collection, now()) if again else (0, 0)
    return replace(
        made,
        new=made.new + new,
        changed=made.changed + changed,
        unchanged=made.unchanged - new - changed,
        left_out=left_out.count,
        named=tuple(left_out.first),
    )
