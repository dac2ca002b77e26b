"""Check an address before a library does: the library's error message would show part of its password."""

from __future__ import annotations

from urllib.parse import urlsplit

from tasks.errors import PartError


def check_address(url: str | None, part: str, variable: str) -> None:
    """Raise ``PartError`` if an address cannot be parsed."""
    try:
        _ = urlsplit(url or "").port
    except ValueError:
        raise PartError(
            f"{part}: the address is not one, its port is no number. Check {variable}: in a password '#', '/', '?' and "
            "'@' are written %23, %2F, %3F and %40."
        ) from None  # the cause would name what it took for the port
