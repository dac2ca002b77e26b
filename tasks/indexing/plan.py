"""Compare the bucket with the ledger and record the work for a sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect import task

from tasks.bucket.errors import where
from tasks.bucket.listing import indexed_from, pages
from tasks.crash_points import crash_point
from tasks.errors import DeletionError
from tasks.generations.claims import keep_source
from tasks.generations.deletion_limit import stop, unasked
from tasks.indexing.compare import Action, compare
from tasks.ledger.changes import LISTINGS_LAG_MS
from tasks.ledger.database import now
from tasks.ledger.missing_keys import KEYS_NAMED, missing_keys
from tasks.ledger.objects import ObjectRow, every_nth_key, not_arrived, object_rows, record_deletions, record_wanted
from tasks.ledger.quarantine import retry_withheld
from tasks.limits import LeftOut
from tasks.models import Loss, ObjectRef
from tasks.retries import patiently
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger.database import Database
    from tasks.resources import Resources

RANGE_KEYS = 20_000
"""Keys of a range. It is 20 requests long, of which one goes past its end. A smaller bucket is not cut: it is listed
in seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of objects to write, to delete and to leave alone.

    ``left_out`` counts the objects that neither ledger nor Milvus can hold. ``named`` gives the first few of them
    with the reason. ``doubtful`` are keys of which the listing may be older than what is known: nothing is recorded
    for them.
    """

    new: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    left_out: int = 0
    named: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()

    def with_those(self, other: Plan) -> Plan:
        """Return the numbers of both, once the bucket was asked for the doubtful keys."""
        return replace(
            self,
            new=self.new + other.new,
            changed=self.changed + other.changed,
            deleted=self.deleted + other.deleted,
            unchanged=self.unchanged + other.unchanged,
            doubtful=(),
        )

    @property
    def todo(self) -> int:
        """Objects to write or delete."""
        return self.new + self.changed + self.deleted

    def __str__(self) -> str:
        """Return the plan as in run names: +12 ~3 -1."""
        return f"+{self.new} ~{self.changed} -{self.deleted}"


def make_plan(
    listing: Iterable[list[ObjectRef]],
    ledger: Database,
    collection: str,
    flow_run_id: str,
    say: Callable[[int], None] = lambda _listed: None,
    agree: Callable[[Loss], None] = lambda _loss: None,
    doubted: Callable[[str, ObjectRow], bool] = lambda _key, _row: False,
) -> Plan:
    """Record in the ledger which objects to write and to delete, a page at a time. Return the numbers.

    Deletions are known, and recorded, only after the whole listing. Before that, ``agree`` is called with the
    expected loss, and may raise. ``doubted`` says whether a key's row may be newer than the listing: where they
    disagree, the key is doubtful.
    """
    counts: Counter[Action] = Counter()
    doubtful: list[str] = []
    deleted = 0
    with missing_keys(ledger, collection) as missing:
        for refs in listing:
            rows = missing.pass_page(refs)
            sure: list[ObjectRef] = []
            todo: set[str] = set()
            for ref in refs:
                row = rows.get(ref.key)
                if row and row.etag != ref.etag and doubted(ref.key, row):
                    doubtful.append(ref.key)
                    continue
                sure.append(ref)
                action = compare(ref, row)
                counts[action] += 1
                if action != "unchanged":
                    todo.add(ref.key)
            want(ledger, collection, [ref for ref in sure if ref.key in todo], flow_run_id)
            say(counts.total())
        missing.pass_rest()
        agree(missing.loss())
        for keys in missing.pieces():
            known = object_rows(ledger, collection, keys)
            young = {key for key, row in known.items() if doubted(key, row)}
            gone = [key for key in keys if key not in young]
            lose(ledger, collection, gone, flow_run_id)
            deleted += len(gone)
            doubtful += sorted(young)
    return Plan(counts["new"], counts["changed"], deleted, counts["unchanged"], doubtful=tuple(doubtful))


def want(
    ledger: Database, collection: str, refs: Sequence[ObjectRef], flow_run_id: str, *, asked: bool = False
) -> None:
    """Record what is to be written. ``asked`` says that the bucket was asked for each key."""
    record_wanted(ledger, collection, refs, flow_run_id, asked=asked)
    crash_point("wanted recorded")


def lose(ledger: Database, collection: str, keys: Sequence[str], flow_run_id: str) -> None:
    """Record what is to be deleted."""
    record_deletions(ledger, collection, keys, flow_run_id)
    crash_point("deletions recorded")


@patiently
def check_moved(resources: Resources, collection: str, keys: Sequence[str] | None = None) -> None:
    """Raise ``DeletionError`` when too many objects would be deleted that were moved to keys that cannot be read.

    ``keys`` limits it to the deletion of some keys.

    A listing may name unreadable keys. Without this check the moved objects would be deleted at the old key and
    never indexed at the new one.
    """
    if resources.consent.allow_deletions:
        return
    leaving, held = not_arrived(resources.ledger, collection, keys)
    loss = Loss(held, len(leaving), held, tuple(leaving[:KEYS_NAMED]))
    if loss.lost > unasked(held, resources.settings):
        raise DeletionError(
            f"By the listing of {where(resources.source)}, {loss.lost:,} of the {held:,} objects in {collection} were "
            "moved to other keys. The new keys cannot be read. These are too many to delete without consent "
            f"(max_deleted_share {resources.settings.max_deleted_share:g}). Nothing was deleted, and they still "
            "answer. Make the new keys readable. Or allow the deletion once: `lockstep sync --allow-deletions`, or "
            "the flow's parameter allow_deletions.",
            loss,
        )


@task(task_run_name="plan {collection}", **RETRIED)
def plan(resources: Resources, collection: str, again: bool = True) -> Plan:
    """List the bucket, compare it with the ledger, record the work. Return the numbers.

    With ``again``, objects that the bucket did not hand out leave the quarantine when their retry is due. That
    happens last, when nothing stops this run from reading them. Raises ``DeletionError`` when too much would be
    deleted without consent. No deletion is recorded then, nor that the generation holds this bucket.
    """

    def agree(loss: Loss) -> None:
        if not resources.consent.allow_deletions:
            accepted = resources.consent.accept_source
            stop(collection, loss, resources.source, resources.settings, accepted=accepted)
        keep_source(resources, collection)

    ledger, left_out, at_once = resources.ledger, LeftOut(), resources.settings.list_ranges
    newer_than = ledger.moment() - LISTINGS_LAG_MS

    def doubted(key: str, row: ObjectRow) -> bool:
        return (row.asked_at or 0) > newer_than and indexed_from(resources.source, key)

    cuts = every_nth_key(ledger, collection, RANGE_KEYS) if at_once > 1 else []
    with closing(pages(resources.s3, resources.source, left_out, cuts, at_once)) as listing:
        made = make_plan(listing, ledger, collection, resources.flow_run_id, resources.progress.listed, agree, doubted)
    new, changed = retry_withheld(resources.ledger, collection, now()) if again else (0, 0)
    return replace(
        made,
        new=made.new + new,
        changed=made.changed + changed,
        unchanged=made.unchanged - new - changed,
        left_out=left_out.count,
        named=tuple(left_out.first),
    )
