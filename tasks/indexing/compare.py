"""Compare a listed object with its row in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tasks.ledger.objects import ObjectRow
    from tasks.models import ObjectRef

Action = Literal["new", "changed", "unchanged"]


def compare(listed: ObjectRef, row: ObjectRow | None) -> Action:
    """Return what a sync has to do for a listed object. ``row`` is None if the ledger does not know its key.

    An object is new until its first chunks are confirmed. It is unchanged if the listed version is indexed or in
    quarantine. Unfinished work of an earlier run (pending, deleting) is never unchanged.
    """
    if row is None:
        return "new"
    if row.state in ("indexed", "quarantined"):
        return "unchanged" if (row.etag, row.size) == (listed.etag, listed.size) else "changed"
    return "new" if row.indexed_etag is None else "changed"
