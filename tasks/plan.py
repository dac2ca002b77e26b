"""Compare the bucket with the ledger and record what has to be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from prefect import task

from tasks.between import between
from tasks.brake import Loss, stop, unasked
from tasks.errors import DeletionError
from tasks.failures import retry_withheld
from tasks.ledger import now
from tasks.limits import LeftOut
from tasks.listing import pages
from tasks.models import ObjectRef
from tasks.retries import RETRIED, patiently
from tasks.s3_errors import where
from tasks.seen import KEYS_NAMED, seen_keys
from tasks.source import keep_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger import Ledger
    from tasks.tools import Tools

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
    ledger: Ledger,
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
            compared = diff(frame(refs), ledger.rows(collection, [ref.key for ref in refs]))
            for action, number in compared["action"].value_counts().items():
                counts[str(action)] += int(number)
            todo = set(compared.loc[compared["action"] != "unchanged", "key"])
            ledger.intend(collection, [ref for ref in refs if ref.key in todo], flow_run_id)
            between("wanted recorded")
            seen.add(refs)
            say(sum(counts.values()))
        agree(seen.loss(collection))
        for keys in seen.missing(collection):
            ledger.intend_deletion(collection, keys, flow_run_id)
            between("deletions recorded")
            deleted += len(keys)
    return Plan(counts["new"], counts["changed"], deleted, counts["unchanged"])


@patiently
def check_moved(tools: Tools, collection: str) -> None:
    """Raise ``DeletionError`` when many objects are to go that were moved, and not read where they are now.

    A listing may name keys that nobody can read: what it says was moved would be deleted, and come back nowhere.
    """
    if tools.consent.allow_deletions:
        return
    going, held = tools.ledger.not_arrived(collection)
    loss = Loss(held, len(going), held, tuple(going[:KEYS_NAMED]))
    if loss.lost > unasked(held, tools.settings):
        raise DeletionError(
            f"{loss.lost:,} of the {held:,} objects that {collection} holds were moved to other keys, says the listing "
            f"of {where(tools.source)}, but cannot be read there: too many to delete them unasked "
            f"(max_deleted_share {tools.settings.max_deleted_share:g}). Nothing was deleted, and they go on answering. "
            "Mend what keeps the new keys from being read; or say once that they are meant to go: "
            "`lockstep sync --allow-deletions`, or the flow's parameter allow_deletions.",
            loss,
        )


@task(task_run_name="plan {collection}", **RETRIED)
def plan(tools: Tools, collection: str, again: bool = True) -> Plan:
    """List the bucket, compare it with the ledger, record the work. Returns the numbers.

    What the bucket did not hand out is tried ``again`` when it is time: it leaves the quarantine only once nothing
    stops this run from reading it. Raises ``DeletionError`` when more would be deleted than goes unasked, before any
    of that is recorded, and before the generation is said to hold this bucket.
    """

    def agree(loss: Loss) -> None:
        if not tools.consent.allow_deletions:
            stop(collection, loss, tools.source, tools.settings, accepted=tools.consent.accept_source)
        keep_source(tools, collection)

    left_out = LeftOut()
    made = make_plan(
        pages(tools.s3, tools.source, left_out),
        tools.ledger,
        collection,
        tools.flow_run_id,
        tools.progress.listed,
        agree,
    )
    new, changed = retry_withheld(tools.ledger, collection, now()) if again else (0, 0)
    return replace(
        made,
        new=made.new + new,
        changed=made.changed + changed,
        unchanged=made.unchanged - new - changed,
        left_out=left_out.count,
        named=tuple(left_out.first),
    )
