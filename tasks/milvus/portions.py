"""Cut rows into portions that fit one call of Milvus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 32 << 20
"""The approximate size of one upsert. gRPC takes 64 MB. A row may have 65 kB each of text, metadata and words."""


def portions(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in lists that fit one call."""
    some: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = sum(_bytes_of(value) for value in row.values())
        if some and (len(some) >= ROWS_AT_ONCE or size + length > BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(dict(row))
        size += length
    if some:
        yield some


def _bytes_of(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        return sum(_bytes_of(one) for pair in value.items() for one in pair)
    return int(getattr(value, "nbytes", 8))
