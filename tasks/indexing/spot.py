"""Spot keys that changed: walk a listing beside the ledger, and name what differs. Nothing is recorded or changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.indexing.compare import compare
from tasks.ledger.changes import WHOLE_BUCKET
from tasks.ledger.objects import ObjectRow, object_rows, rows_between

if TYPE_CHECKING:
    from tasks.ledger.database import Database
    from tasks.models import ObjectRef

GONE = ""
"""Stands for the version of a key that the listing lacks."""
MOST_ROWS = 50_000
"""Rows of the ledger that are read for a page. If there are more, a whole sync takes a look."""


def spot(listing: Iterable[Sequence[ObjectRef]], ledger: Database, collection: str) -> Iterator[dict[str, str]]:
    """Yield, for each page, the keys whose listed version no sync has recorded yet, with that version.

    A key that the ledger has and a sorted listing lacks has the version ``GONE``. If the listing is not sorted, some of
    these are not named, and others for nothing: the sync of a key asks the bucket for it. ``WHOLE_BUCKET`` stands for
    more keys than are read here.
    """
    reached, in_order = "", True
    for page in listing:
        refs = {ref.key: ref for ref in page}
        if not refs:
            continue
        in_order = in_order and min(refs) > reached
        if in_order:
            rows = rows_between(ledger, collection, reached, max(refs), MOST_ROWS)
            reached = max(refs)
            yield _news(refs, rows) | _gone(refs, rows)
        else:
            yield _news(refs, object_rows(ledger, collection, list(refs)))
    if in_order:
        yield _gone({}, rows_between(ledger, collection, reached, None, MOST_ROWS))


def _news(refs: Mapping[str, ObjectRef], rows: Mapping[str, ObjectRow]) -> dict[str, str]:
    return {key: ref.etag for key, ref in refs.items() if is_news(ref, rows.get(key))}


def _gone(refs: Mapping[str, ObjectRef], rows: Mapping[str, ObjectRow]) -> dict[str, str]:
    gone = {key: GONE for key, row in rows.items() if key not in refs and row.state != "deleting"}
    return gone if len(rows) < MOST_ROWS else {WHOLE_BUCKET: GONE}


def is_news(listed: ObjectRef, row: ObjectRow | None) -> bool:
    """Return whether a listed version is one that no sync has recorded."""
    if row is not None and row.state in ("pending", "returned") and row.etag == listed.etag:
        return False  # it waits for the whole sync that recorded it, or for its retry
    return compare(listed, row) != "unchanged"
