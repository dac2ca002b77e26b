"""Cache a block's JSON schema, which Prefect asks for dozens of times."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from prefect.blocks.core import Block


class SchemaOnce:
    """A base of blocks, before Prefect's own, that remembers the JSON schema of its class.

    Prefect asks for it dozens of times whenever a block is saved, loaded or dumped, and makes it anew each
    time, with those of all nested blocks: most of the time that saving a pipeline took.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema as Prefect makes it; a copy, since callers change it."""
        text = _schema(cls, args, tuple(kwargs.items()))  # type: ignore[arg-type]  # classes do hash
        schema: dict[str, Any] = json.loads(text)  # a third of the time of a deep copy
        return schema


def remember_schema(kind: type[Block]) -> None:
    """Do the same for a block of another package that ours nest: its schema is asked for as often."""
    kind.model_json_schema = classmethod(SchemaOnce.model_json_schema.__func__)  # type: ignore[attr-defined, method-assign, assignment]


@cache
def _schema(kind: Any, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> str:
    make: Any = Block.model_json_schema
    return json.dumps(make.__func__(kind, *args, **dict(kwargs)))
