"""The identity of a pipeline's bucket: server, name and prefix, in a form that can be compared."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks.s3_source import S3Source


USUAL_PORTS = {"http": 80, "https": 443}
_AWS = re.compile(r"s3(?:[.-][a-z0-9.-]*)?\.amazonaws\.com(?:\.cn)?")
EMBEDDED = "the S3 server of home"


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket's server, name and prefix. ``ledger`` is the mark of the ledger that keeps the generation."""

    server: str
    bucket: str
    prefix: str
    ledger: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """The fields that identify the source."""
        return self.server, self.bucket, self.prefix

    def __str__(self) -> str:
        """Return the source as text for a message."""
        prefix = f", prefix '{self.prefix}'" if self.prefix else ""
        return f"bucket '{self.bucket}' at {self.server}{prefix}"


def server(endpoint: str | None) -> str:
    """Return an S3 server's identity: host, port and path, however they are written. All of AWS is one server."""
    if not endpoint:
        return "AWS"
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").rstrip(".")
    if _AWS.fullmatch(host):
        return "AWS"
    if host in ("127.0.0.1", "::1"):
        host = "localhost"
    port = parts.port if parts.port not in (None, USUAL_PORTS.get(parts.scheme)) else None
    return f"{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def source_of(block: S3Source, ledger: str = "") -> Source:
    """Return the identity of the bucket that a pipeline reads."""
    named = block.server if still_named(block) else ""
    return Source(named or server(block.endpoint_url), block.bucket, block.prefix, ledger)


def embedded_server(access_key: str) -> str:
    """Return the name of a home's embedded S3 server. It comes from the access key, because the port may change."""
    return f"{EMBEDDED} {hashlib.sha256(access_key.encode()).hexdigest()[:12]}"


def still_named(block: S3Source) -> bool:
    """Return whether a block's server name and folder still fit its address, which somebody may have changed."""
    if not block.server.startswith(EMBEDDED):
        return True
    key = getattr(block.credentials, "aws_access_key_id", None) or ""
    return server(block.endpoint_url).startswith("localhost") and block.server == embedded_server(key)


def from_row(row: Mapping[str, Any] | None) -> Source | None:
    """Return the source that a collection or the ledger stores, or None if it stores none."""
    return Source(**{name: str(row.get(name, "")) for name in Source.__slots__}) if row else None
