"""OpenAI's filters of vector stores, said in our language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deployments.server.errors import RequestError

COMPARED = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
OURS = ("key", "heading", "page", "last_modified", "prefix")
"""Fields of ours; any other is an entry of the objects' metadata."""
NAME = re.compile(r"[\w.-]{1,255}")
DEEPEST = 10


def as_filter(given: Any, depth: int = 0) -> str:
    """Return a filter in our language; empty for none. Raises ``RequestError`` naming what cannot be said."""
    if given is None:
        return ""
    if not isinstance(given, dict) or depth > DEEPEST:
        raise _bad("a filter is an object with a type, at most ten deep")
    kind = given.get("type")
    if kind in ("and", "or"):
        parts = given.get("filters")
        if not isinstance(parts, list) or not parts:
            raise _bad(f"'{kind}' has a list of filters, with one at least")
        return f"({f' {kind} '.join(as_filter(one, depth + 1) for one in parts)})"
    return _comparison(kind, given.get("key"), given.get("value"))


def _comparison(kind: Any, key: Any, value: Any) -> str:
    if not isinstance(key, str) or not NAME.fullmatch(key):
        raise _bad("a comparison has a key of letters, digits, '_', '-' and '.'")
    name = key if key in OURS else key if key.startswith("metadata.") else f"metadata.{key}"
    if kind in ("in", "nin"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise _bad(f"'{kind}' has a list of values")
        among = f"{name} in ({', '.join(_value(one) for one in value)})"
        return among if kind == "in" else f"not ({among})"
    if kind not in COMPARED:
        raise _bad(f"there is no comparison {kind!r}: {', '.join((*COMPARED, 'in', 'nin', 'and', 'or'))} are known")
    return f"{name}{COMPARED[kind]}{_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _bad("a value is a text or a number")
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def _bad(message: str) -> RequestError:
    return RequestError(f"filters: {message}", 400, "invalid_filter", "filters")
