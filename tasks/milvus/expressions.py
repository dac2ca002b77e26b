"""Write values as literals of Milvus' filter language."""

from __future__ import annotations

from collections.abc import Iterable

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
LAST = chr(0x10FFFF)
SURROGATES = range(0xD800, 0xE000)


def literal(value: str | Iterable[str]) -> str:
    """Return a string, or a list of strings, as a literal of Milvus' filter language.

    Quotes and backslashes are escaped, so no key can end the literal and widen the filter. Only three control
    characters have an escape in every Milvus. The others are left as they are.
    """
    if isinstance(value, str):
        return f'"{value.translate(ESCAPES)}"'
    return f"[{', '.join(literal(one) for one in value)}]"


def starting_with(field: str, start: str) -> str:
    """Return the condition that a field starts with a text, written as a range.

    `like` has wildcards, and servers differ in how these are escaped. The order of strings is the same everywhere.
    """
    low = f"({field} >= {literal(start)})"
    end = after(start)
    return f"({low} and ({field} < {literal(end)}))" if end else low


def after(start: str) -> str:
    """Return the first string after all strings with this start, or '' if there is none."""
    kept = start.rstrip(LAST)
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(SURROGATES.stop if following in SURROGATES else following)
