"""Write chunks to Milvus. If Milvus refuses a chunk for its content, only that chunk's document fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.errors import ContentError
from tasks.ledger.database import now
from tasks.milvus.rows import Columns, to_rows

if TYPE_CHECKING:
    from tasks.models import Piece
    from tasks.resources import Resources

    Row = Mapping[str, Any]
    Upsert = Callable[[Sequence[Row]], object]


def write_piece(resources: Resources, collection: str, piece: Piece) -> dict[str, str]:
    """Write chunks; ids follow from what they hold, so writing them again changes nothing.

    Returns why Milvus refused documents, by key.
    """
    resources.check_writer()
    columns = Columns(resources.store.capabilities.bm25, resources.settings.tenants, resources.source.prefix)
    rows = list(to_rows(piece, now(), resources.flow_run_id, columns))
    return accepted(rows, lambda some: resources.store.upsert(collection, some))


def accepted(rows: Sequence[Row], upsert: Upsert) -> dict[str, str]:
    """Write rows; those that are refused for what they hold are halved until the culprit is alone.

    Returns the reason by key. Any other refusal is raised: it is not the row's fault.
    """
    try:
        if rows:
            upsert(rows)
    except ContentError as error:
        if len(rows) == 1:
            return {rows[0]["key"]: f"Milvus refuses its chunk {rows[0]['chunk_index']}: {error}"}
        half = len(rows) // 2
        return accepted(rows[:half], upsert) | accepted(rows[half:], upsert)
    return {}
