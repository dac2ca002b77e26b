"""Cache the JSON schemas of blocks: Prefect asks for them again and again."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from prefect.blocks.core import Block


class SchemaOnce:
    """A base class of blocks, before Prefect's own, that caches the JSON schema of its class.

    Prefect asks for the schema dozens of times when a block is saved, loaded or dumped. Each time it makes the schema
    anew, with those of all nested blocks. That took most of the time of saving a pipeline.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a copy of the schema that Prefect makes. Callers change it, so they need a copy."""
        return copy.deepcopy(_schema(cls, args, tuple(kwargs.items())))  # type: ignore[arg-type]  # classes do hash


def remember_schema(kind: type[Block]) -> None:
    """Cache the schema of another package's block that ours nest: Prefect asks for it as often."""
    kind.model_json_schema = classmethod(SchemaOnce.model_json_schema.__func__)  # type: ignore[attr-defined, method-assign, assignment]


@cache
def _schema(kind: Any, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> str:
    make: Any = Block.model_json_schema
    return json.dumps(make.__func__(kind, *args, **dict(kwargs)))
