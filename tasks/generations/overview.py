"""List a pipeline's generations for comparison."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.generations.fingerprint import differences
from tasks.ledger.database import Database
from tasks.ledger.generations import Generation, generations
from tasks.ledger.objects import count_objects
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline


def overview(pipeline: str) -> list[dict[str, Any]]:
    """Return the generations of a saved pipeline as rows, newest first (see :func:`side_by_side`)."""
    block = load_pipeline(pipeline)
    with Store(block.store, block.alias) as store, Database(block.ledger) as ledger:
        return side_by_side(store, ledger)


def side_by_side(store: Store, ledger: Database) -> list[dict[str, Any]]:
    """Return the generations of an alias as rows, newest first.

    A row has: collection, number, state, fingerprint, ``differs`` ('setting: this → live' for each setting that differs
    from the live generation), objects, chunks, quarantined, ``vector_bytes`` (4 bytes a dimension; None if it is
    dropped), created, promoted and retired (ISO 8601 or None), chunks_embedded, chunks_reused, seconds, gates,
    ``quality`` (metrics on the golden questions), ``forced`` (who promoted it despite a failed gate, and why, or None).
    """
    live, known = store.live(), generations(ledger, store.alias)
    of_live = next((one.ingredients for one in known if one.collection == live), {})
    return [_row(store, ledger, one, live, of_live) for one in known]


def _row(store: Store, ledger: Database, one: Generation, live: str | None, of_live: dict[str, Any]) -> dict[str, Any]:
    states = count_objects(ledger, one.collection)
    chunks, quarantined = states.pop("chunks"), states.get("quarantined", 0)
    dimension = store.dimension_of(one.collection) if store.exists(one.collection) else None
    return {
        "collection": one.collection,
        "number": one.number,
        "state": one.state(live),
        "fingerprint": one.fingerprint,
        "differs": differences(one.ingredients, of_live) if of_live else [],
        "objects": sum(states.values()) - quarantined,
        "chunks": chunks,
        "quarantined": quarantined,
        "vector_bytes": chunks * dimension * 4 if dimension else None,
        "created": _time(one.created_at),
        "promoted": _time(one.promoted_at),
        "retired": _time(one.retired_at),
        "chunks_embedded": one.chunks_embedded,
        "chunks_reused": one.chunks_reused,
        "seconds": round(one.seconds, 3),
        "gates": one.gates,
        "quality": one.quality,
        "forced": one.forced,
    }


def _time(ms: int | None) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else None
