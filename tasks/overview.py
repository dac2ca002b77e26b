"""Look at a pipeline's generations side by side."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from tasks.fingerprint import differences
from tasks.generations import generations
from tasks.ledger import Ledger
from tasks.pipelines import load_pipeline
from tasks.store import Store


def overview(pipeline: str) -> list[dict[str, Any]]:
    """Return the generations, newest first, as rows.

    collection, number, state, fingerprint, ``differs`` ('setting: this → live' of each that differs from the live
    one), objects, chunks, quarantined, created, promoted and retired (ISO 8601 or None), chunks_embedded,
    chunks_reused, seconds, gates.
    """
    block = load_pipeline(pipeline)
    store = Store(block.store, block.alias)
    with closing(store.client):
        live = store.live()
    ledger = Ledger(block.ledger)
    try:
        known = generations(ledger, block.alias)
        of_live = next((one.ingredients for one in known if one.collection == live), {})
        rows = []
        for one in known:
            states = ledger.totals(one.collection)
            chunks, quarantined = states.pop("chunks"), states.get("quarantined", 0)
            rows.append(
                {
                    "collection": one.collection,
                    "number": one.number,
                    "state": one.state(live),
                    "fingerprint": one.fingerprint,
                    "differs": differences(one.ingredients, of_live) if of_live else [],
                    "objects": sum(states.values()) - quarantined,
                    "chunks": chunks,
                    "quarantined": quarantined,
                    "created": _time(one.created_at),
                    "promoted": _time(one.promoted_at),
                    "retired": _time(one.retired_at),
                    "chunks_embedded": one.chunks_embedded,
                    "chunks_reused": one.chunks_reused,
                    "seconds": round(one.seconds, 3),
                    "gates": one.gates,
                }
            )
        return rows
    finally:
        ledger.engine.dispose()


def _time(ms: int | None) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else None
