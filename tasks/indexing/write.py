"""Write chunks to Milvus. If Milvus refuses the content of a chunk, only its document fails."""

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
    """Write chunks. Ids are computed from the content, so writing a chunk twice changes nothing.

    Returns Milvus' reasons for refused documents, by key.
    """
    resources.check_writer()
    columns = Columns(resources.store.capabilities.bm25, resources.settings.tenants, resources.source.prefix)
    rows = list(to_rows(piece, now(), resources.flow_run_id, columns))
    return accepted(rows, lambda some: resources.store.upsert(collection, some))


def accepted(rows: Sequence[Row], upsert: Upsert) -> dict[str, str]:
    """Write rows. If Milvus refuses their content, halve them until the refused row is alone.

    Returns the reason by key. Raises any other error: it is not the row's fault.
    """
    try:
        if rows:
            upsert(rows)
    except ContentError as error:
        if len(rows) == 1:
            return {rows[0]["key"]: f"Milvus refused chunk {rows[0]['chunk_index']} of it: {error}"}
        half = len(rows) // 2
        return accepted(rows[:half], upsert) | accepted(rows[half:], upsert)
    return {}
