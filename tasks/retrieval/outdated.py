"""Mark hits from an older version of an object whose newest version is in quarantine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.errors import LockstepError
from tasks.ledger.quarantine import outdated

if TYPE_CHECKING:
    from tasks.retrieval.retrieve import Retrieved
    from tasks.retrieval.routing import LedgerOrWhy


def mark_outdated(found: Retrieved, ledger: LedgerOrWhy) -> Retrieved:
    """Return the hits with outdated ones marked, and a note about them.

    If the ledger is down, nothing is marked, and the note says that the versions are unknown.
    """
    if not found.hits:
        return found
    try:
        if isinstance(ledger, LockstepError):
            raise ledger
        old = outdated(ledger, found.collection, sorted({hit.key for hit in found.hits}))
    except LockstepError as error:
        return replace(found, notes=(*found.notes, f"these may not be the newest versions: {error}"))
    if not old:
        return found
    hits = tuple(replace(hit, outdated=hit.key in old) for hit in found.hits)
    note = (
        f"the newest version of {', '.join(sorted(old))} cannot be indexed (see `lockstep quarantine`). "
        "An older version answers."
    )
    return replace(found, hits=hits, notes=(*found.notes, note))
