"""Check an address before a library parses it: the library's error would quote a part of the password."""

from __future__ import annotations

from urllib.parse import urlsplit

from tasks.errors import PartError


def check_address(url: str | None, part: str, variable: str) -> None:
    """Raise ``PartError`` when an address cannot be parsed."""
    try:
        _ = urlsplit(url or "").port
    except ValueError:
        raise PartError(
            f"{part}: the address is invalid, its port is not a number. Check {variable}. In a password, write '#', "
            "'/', '?' and '@' as %23, %2F, %3F and %40."
        ) from None  # the cause would quote a part of the password as the port
