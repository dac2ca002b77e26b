"""Record which bucket a generation holds and which ledger keeps it, in the collection and in the ledger.

Both records are checked before a generation is read or written. So a pipeline with another bucket, or another home with
its own ledger, neither empties the generation nor answers from it. An empty ledger, as after a loss, takes over a
generation of the same bucket. From then on, the ledger that kept it before is refused.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket.identity import Source, from_row, source_of
from tasks.crash_points import crash_point
from tasks.errors import SourceError
from tasks.ledger.generations import record_source, recorded_source
from tasks.ledger.objects import count_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks.pipeline import Pipeline
    from tasks.milvus.store import Store
    from tasks.resources import Resources

SOURCE = "lockstep.source"
"""The property of a collection that says which bucket it holds and which ledger keeps it."""
REMEMBERED = 20
"""The number of replaced records that the ledger remembers: Milvus 2.3 shows the first again after each restart."""
YES = (
    "If this is intended (it was moved or renamed, or has another address), confirm it once: `--accept-source`, or the "
    "flow's parameter accept_source."
)


def source_kept(store: Store, collection: str) -> Source | None:
    """Return the source that is stored with a collection, or None if the server did not keep it."""
    return source_in(store.properties(collection))


def source_in(properties: Mapping[str, str]) -> Source | None:
    """Return the source that a collection's properties name, or None if they name none."""
    value = properties.get(SOURCE)
    return from_row(json.loads(value)) if value else None


@dataclass(frozen=True, slots=True)
class Claim:
    """The source to record for a generation. ``before`` are replaced records of its collection."""

    source: Source
    before: tuple[Source, ...]

    def as_row(self) -> dict[str, Any]:
        """Return the claim in the form that the ledger stores."""
        return {**asdict(self.source), "before": [asdict(one) for one in self.before]}


def claim_of(
    collection: str, mine: Source, known: Mapping[str, Any] | None, kept: Source | None, accepted: bool
) -> Claim:
    """Return this run's claim to a generation. ``known`` is the ledger's record, ``kept`` the collection's.

    Raises ``SourceError`` if either names another bucket, or the collection another ledger, unless that is accepted.
    """
    before = tuple(filter(None, (from_row(one) for one in (known or {}).get("before", []))))
    recorded = from_row(known)
    current = None if kept in before else kept
    others = [one for one in (recorded, current) if one and one.place != mine.place]
    another = recorded is not None and current is not None and current.ledger != recorded.ledger
    if others and not accepted:
        raise SourceError(f"{collection} holds {others[0]}; this pipeline reads {mine}. Nothing was changed. {YES}")
    if another and not accepted:
        raise SourceError(
            f"{collection} is kept by another ledger since this one wrote to it. Two ledgers would undo each other's "
            "work. Nothing was changed. Use one LEDGER_URL for both, or another COLLECTION_NAME. If this ledger should "
            "take over, confirm it once: `--accept-source`, or the flow's parameter accept_source."
        )
    mark = recorded.ledger if recorded and not others and not another else uuid.uuid4().hex[:16]
    claimed = Source(*mine.place, mark)
    replaced = (current,) if current and current != claimed else ()
    return Claim(claimed, (*before, *replaced)[-REMEMBERED:])


def check_source(resources: Resources, collection: str) -> Claim:
    """Return this pipeline's claim to a generation. Raises ``SourceError`` if it belongs to another pipeline.

    If this ledger began the generation and it holds nothing yet, any bucket may claim it. The first may have been a
    typing error.
    """
    kept = source_kept(resources.store, collection) if resources.store.exists(collection) else None
    known = recorded_source(resources.ledger, collection)
    recorded = from_row(known)
    own = recorded is not None and (kept is None or kept.ledger == recorded.ledger)
    empty = own and set(count_objects(resources.ledger, collection)) == {"chunks"}
    accepted = empty or resources.consent.accept_source
    return claim_of(collection, source_of(resources.pipeline.source), known, kept, accepted)


def may_go_on(resources: Resources, collection: str) -> bool:
    """Return whether a generation that was begun holds this pipeline's bucket, or may be claimed for it."""
    try:
        check_source(resources, collection)
    except SourceError:
        return False
    return True


def check_keeper(resources: Resources, collection: str) -> None:
    """Raise ``SourceError`` if another ledger keeps an existing generation, whichever bucket it holds."""
    kept = source_kept(resources.store, collection) if resources.store.exists(collection) else None
    recorded = from_row(recorded_source(resources.ledger, collection))
    if kept and recorded and kept.ledger != recorded.ledger:
        raise SourceError(
            f"{collection} is kept by another ledger since this one wrote to it, so it was not dropped. "
            "Use one LEDGER_URL for both, or another COLLECTION_NAME."
        )


def keep_source(resources: Resources, collection: str) -> None:
    """Record the source of a generation, if that is not done yet. Call it once the plan is accepted.

    The ledger is written first, so that it knows the record that is replaced in the collection. Raises ``SourceError``
    if the generation belongs to another pipeline.
    """
    claim = check_source(resources, collection)
    if recorded_source(resources.ledger, collection) != claim.as_row():
        record_source(resources.ledger, collection, claim.as_row())
        crash_point("source recorded")
    if source_kept(resources.store, collection) != claim.source:
        resources.store.keep_property(collection, SOURCE, json.dumps(asdict(claim.source)))


def check_asked(
    pipeline: Pipeline, collection: str, kept: Source | None, known: Mapping[str, Mapping[str, Any] | None] | None
) -> None:
    """Raise ``SourceError`` if a question would be answered from a generation that another ledger keeps.

    ``known`` holds the ledger's record of each generation of the pipeline, or is None while the ledger does not answer.
    If the ledger does not know the generation, it was lost, and the generation must hold the pipeline's bucket. If it
    knows the generation, the bucket may differ, because the pipeline is about to be moved.
    """
    if kept is None or known is None:
        return
    row = known.get(collection)
    recorded = from_row(row)
    if recorded is None:
        foreign = kept.place != source_of(pipeline.source).place
    else:
        foreign = kept.ledger != recorded.ledger and asdict(kept) not in (row or {}).get("before", [])
    if foreign:
        raise SourceError(
            f"'{pipeline.alias}' points at {collection}, which holds {kept} and is kept by another ledger. So it does "
            "not answer questions to this pipeline. Use that ledger's LEDGER_URL, or another COLLECTION_NAME."
        )
