"""Compare some keys of the bucket with the ledger and record the work for them: the plan of a sync of a few keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.bucket.errors import MovedOnError, s3_errors, where
from tasks.bucket.fetch import head
from tasks.bucket.listing import indexed_from, readable
from tasks.errors import PartError, TransientError
from tasks.generations.claims import keep_source
from tasks.generations.deletion_limit import unasked
from tasks.indexing.compare import Action, compare
from tasks.indexing.plan import Plan, lose, want
from tasks.ledger.generations import add_lost, lost_since_listing
from tasks.ledger.objects import ObjectRow, count_answering, object_rows, versions_held
from tasks.limits import LeftOut
from tasks.models import ObjectRef
from tasks.retries import patiently
from tasks.sanitize import inert
from tasks.task_runs import run_logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source
    from tasks.resources import Resources

HEADS_AT_ONCE = 10
"""As many connections as boto3 keeps open."""
KEYS_SHOWN = 10
TO_LISTING = "The next whole listing decides."


@dataclass(slots=True)
class Looked:
    """What the bucket says of some keys: what it has, what it lacks, and of which it says nothing."""

    there: list[ObjectRef] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def look(client: S3Client, source: S3Source, keys: Sequence[str]) -> Looked:
    """Ask the bucket for the version of each key.

    A key counts as gone only if the bucket itself is there. A key that the server cannot answer for is unknown, if the
    bucket answers: one odd key must not stop the others. Raises ``PartError`` if there is no such bucket, and
    ``TransientError`` if the server does not answer.
    """
    looked = Looked()

    def ask(key: str) -> ObjectRef | Exception:
        try:
            return head(client, source, key)
        except Exception as error:  # noqa: BLE001 - of one key; whether the bucket answers is asked below
            return error

    rest = list(keys)
    with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
        for again in (True, False):
            answers = dict(zip(rest, pool.map(ask, rest), strict=True))
            rest = [key for key, answer in answers.items() if isinstance(answer, TransientError)]
            looked.there += [answer for answer in answers.values() if isinstance(answer, ObjectRef)]
            looked.gone += [key for key, answer in answers.items() if isinstance(answer, MovedOnError)]
            settled = (ObjectRef, MovedOnError, TransientError)
            looked.unknown += [key for key, answer in answers.items() if not isinstance(answer, settled)]
            if looked.gone or looked.unknown or rest:
                patiently(check_bucket)(client, source)
            if not again:
                looked.unknown += rest
    return looked


def check_bucket(client: S3Client, source: S3Source) -> None:
    """Raise ``PartError`` if there is no such bucket: a server says 404 for its keys as for a key that is gone."""
    try:
        with s3_errors(source):
            client.head_bucket(Bucket=source.bucket)
    except MovedOnError as error:
        raise PartError(
            f"S3: there is no {where(source)}. Create it, or set BUCKET to one that exists. Nothing was deleted."
        ) from error
    readable(source)


def plan_keys(resources: Resources, collection: str, keys: Sequence[str]) -> Plan:
    """Ask the bucket for some keys, compare the answers with the ledger, record the work. Return the numbers.

    Keys that the pipeline does not index are left alone. So are keys of which the bucket says nothing without a
    listing, and deletions of more objects than ``max_deleted_share`` allows: the next whole listing decides.
    """
    source, ledger = resources.source, resources.ledger
    asked = [key for key in dict.fromkeys(keys) if key and indexed_from(source, key)]
    if not asked:
        return Plan()
    looked, left_out = look(resources.s3, source, asked), LeftOut()
    there = left_out.keepable(looked.there)
    rows = patiently(object_rows)(ledger, collection, [ref.key for ref in there] + looked.gone)
    actions = {ref: compare(ref, rows.get(ref.key)) for ref in there}
    counts: Counter[Action] = Counter(actions.values())
    todo = [ref for ref, action in actions.items() if action != "unchanged"]
    gone = [key for key in looked.gone if key in rows]
    if todo or gone:
        patiently(keep_source)(resources, collection)
    patiently(want)(ledger, collection, todo, resources.flow_run_id, asked=True)
    lost = lost_for_good(resources, collection, {key: rows[key] for key in gone}, todo)
    if too_many(resources, collection, lost):
        _say(f"{len(gone):,} objects are gone from {where(source)}, too many to delete without a listing", gone)
        gone, lost = [], 0
    if looked.unknown:
        _say(f"{where(source)} does not say whether it has {len(looked.unknown):,} objects", looked.unknown)
    patiently(add_lost)(ledger, collection, lost - counts["new"])
    patiently(lose)(ledger, collection, gone, resources.flow_run_id)
    return Plan(counts["new"], counts["changed"], len(gone), counts["unchanged"], left_out.count, tuple(left_out.first))


def lost_for_good(
    resources: Resources, collection: str, gone: dict[str, ObjectRow], wanted: Sequence[ObjectRef]
) -> int:
    """Count the objects that answer and are gone.

    An object whose bytes are wanted or indexed under another key was moved, and does not count.
    """
    lost = {key: row.indexed_etag for key, row in gone.items() if row.indexed_etag}
    if not lost:
        return 0
    moved = {ref.etag for ref in wanted}
    moved |= patiently(versions_held)(resources.ledger, collection, sorted(set(lost.values())), except_for=sorted(lost))
    return sum(etag not in moved for etag in lost.values())


def too_many(resources: Resources, collection: str, lost: int) -> bool:
    """Return whether more objects would be lost than may be deleted without a person's consent.

    Those count that were lost since the last whole listing: a bucket that empties bit by bit is an emptied bucket.
    """
    if resources.consent.allow_deletions or not lost:
        return False
    before = patiently(lost_since_listing)(resources.ledger, collection)
    held = patiently(count_answering)(resources.ledger, collection) + before
    return before + lost > unasked(held, resources.settings)


def _say(what: str, keys: Sequence[str]) -> None:
    some = ", ".join(f"'{inert(key)}'" for key in keys[:KEYS_SHOWN])
    run_logger().warning("%s: %s%s. %s", what, some, " …" if len(keys) > KEYS_SHOWN else "", TO_LISTING)
