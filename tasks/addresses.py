"""Look at an address before a library does, whose words about a broken one hold a part of its password."""

from __future__ import annotations

from urllib.parse import urlsplit

from tasks.errors import PartError


def check_address(url: str | None, part: str, variable: str) -> None:
    """Raise ``PartError`` when an address cannot be taken apart."""
    try:
        _ = urlsplit(url or "").port
    except ValueError:
        raise PartError(
            f"{part}: the address is not one, its port is no number. Check {variable}: in a password '#', '/', '?' and "
            "'@' are written %23, %2F, %3F and %40."
        ) from None  # the cause would name what it took for the port
