"""Mark hits from an older version of an object whose newest version is in quarantine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.errors import LockstepError
from tasks.ledger.quarantine import outdated

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tasks.retrieval.retrieve import Retrieved
    from tasks.retrieval.routing import LedgerOrWhy


def mark_outdated(found: Retrieved, ledger: LedgerOrWhy) -> Retrieved:
    """Return the hits with outdated ones marked, and a note about them.

    If the ledger is down, nothing is marked, and the note says that the versions are unknown.
    """
    return mark_all([found], ledger)[0]


def mark_all(found: Sequence[Retrieved], ledger: LedgerOrWhy) -> list[Retrieved]:
    """Do as :func:`mark_outdated` for what several questions found in one collection, with one look at the ledger."""
    keys = sorted({hit.key for one in found for hit in one.hits})
    if not keys:
        return list(found)
    try:
        if isinstance(ledger, LockstepError):
            raise ledger
        old = outdated(ledger, found[0].collection, keys)
    except LockstepError as error:
        note = f"these may not be the newest versions: {error}"
        return [replace(one, notes=(*one.notes, note)) if one.hits else one for one in found]
    return [_marked(one, old) for one in found]


def _marked(found: Retrieved, outdated_keys: Collection[str]) -> Retrieved:
    old = sorted({hit.key for hit in found.hits if hit.key in outdated_keys})
    if not old:
        return found
    hits = tuple(replace(hit, outdated=hit.key in outdated_keys) for hit in found.hits)
    note = (
        f"the newest version of {', '.join(old)} cannot be indexed (see `lockstep quarantine`). "
        "An older version answers."
    )
    return replace(found, hits=hits, notes=(*found.notes, note))
