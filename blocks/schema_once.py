"""Make a block's schema once, not each time that Prefect asks for it."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any


class SchemaOnce:
    """A base of blocks, before Prefect's own, that remembers the JSON schema of its class.

    Prefect asks for it dozens of times whenever a block is saved, loaded or dumped, and makes it anew each
    time, with those of all nested blocks: most of the time that saving a pipeline took.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema as Prefect makes it; a copy, since callers change it."""
        return copy.deepcopy(_schema(cls, args, tuple(kwargs.items())))  # type: ignore[arg-type]  # classes do hash


@cache
def _schema(kind: Any, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    schema: dict[str, Any] = super(SchemaOnce, kind).model_json_schema(*args, **dict(kwargs))
    return schema
