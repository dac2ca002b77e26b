"""List a pipeline's quarantine, and release objects from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tasks.errors import MisuseError
from tasks.ledger.database import Database
from tasks.ledger.quarantine import quarantined, retry
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline


@contextmanager
def _opened(pipeline: str) -> Iterator[tuple[Database, str]]:
    block = load_pipeline(pipeline)
    with Store(block.store, block.alias) as store:
        collection = store.resolve()
    with Database(block.ledger) as ledger:
        yield ledger, collection


def contents(pipeline: str) -> list[dict[str, Any]]:
    """Return the quarantine, newest first: key, reason, attempts, since (ISO 8601), older_version_answers."""
    with _opened(pipeline) as (ledger, collection):
        return [as_json(row) for row in quarantined(ledger, collection)]


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the quarantine as :func:`contents` lists it."""
    return {
        "key": row["key"],
        "reason": row["reason"],
        "attempts": row["attempts"],
        "since": datetime.fromtimestamp(row["since"] / 1000, UTC).isoformat(timespec="seconds"),
        "older_version_answers": row["indexed_etag"] is not None,
    }


def release(pipeline: str, keys: Sequence[str] | None = None) -> list[str]:
    """Release objects from quarantine, all or the given keys. Return the released keys.

    Raises ``MisuseError`` naming the keys that are not in quarantine. Then no object is released.
    """
    with _opened(pipeline) as (ledger, collection):
        if keys is not None:
            there = {row["key"] for row in quarantined(ledger, collection)}
            if strangers := [key for key in keys if key not in there]:
                raise MisuseError(
                    f"not in quarantine: {', '.join(strangers)}. `lockstep quarantine` lists the objects that are."
                )
        return retry(ledger, collection, keys)
