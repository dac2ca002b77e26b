"""The keys of the service: hashed, scoped to pipelines, a tenant and rights, with an expiry.

A key reads ``lsk_<id>_<secret>``. The secret has 256 random bits, so a plain SHA-256 of it is enough: there is nothing
to guess, and a slow hash would cost each request a tenth of a second.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa

from tasks.errors import MisuseError
from tasks.ledger.database import Database, now
from tasks.ledger.tables import KEYS

Right = Literal["search", "ask", "read", "feedback", "admin"]
RIGHTS: tuple[Right, ...] = get_args(Right)
USUAL_RIGHTS: tuple[Right, ...] = ("search", "ask", "read", "feedback")
FORM = re.compile(r"lsk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
USED_EVERY_MS = 60_000
"""How often the last use of a key is recorded: a write for each request would cost more than the search."""
NOBODY = "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret; times in ms since 1970. No ``pipelines`` means all of them."""

    id: str
    name: str
    tenant: str
    pipelines: tuple[str, ...]
    rights: tuple[Right, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    used_at: int | None = None

    def may(self, right: Right, pipeline: str | None = None) -> bool:
        """Return whether the key allows something, in a pipeline if one is named."""
        return right in self.rights and (pipeline is None or not self.pipelines or pipeline in self.pipelines)


def create_key(
    ledger: Database,
    name: str,
    tenant: str = "",
    pipelines: Sequence[str] = (),
    rights: Sequence[str] = USUAL_RIGHTS,
    expires_at: int | None = None,
) -> tuple[Key, str]:
    """Create a key; return it and the text that a client sends. The text is shown once and kept nowhere.

    Raises ``MisuseError`` for an unknown right, and for a name that is empty or too long.
    """
    if unknown := sorted(set(rights) - set(RIGHTS)):
        raise MisuseError(f"there is no right '{unknown[0]}'. The rights are {', '.join(RIGHTS)}.")
    if not name.strip() or len(name) > 255:
        raise MisuseError("a key has a name of 1 to 255 characters that says who uses it.")
    if expires_at is not None and expires_at <= now():
        raise MisuseError("the key would have expired already. Choose a later end.")
    secret = secrets.token_urlsafe(32)
    key = Key(
        secrets.token_hex(4),
        name.strip(),
        tenant,
        tuple(pipelines),
        tuple(right for right in RIGHTS if right in rights),
        now(),
        expires_at,
    )
    row = {field: getattr(key, field) for field in Key.__slots__} | {"digest": digest_of(secret)}
    row |= {"pipelines": list(key.pipelines), "rights": list(key.rights)}
    with ledger.transaction() as connection:
        connection.execute(sa.insert(KEYS).values(row))
    return key, f"lsk_{key.id}_{secret}"


def find_key(ledger: Database, presented: str) -> Key | None:
    """Return the valid key of a text that a client sent; None if it is unknown, wrong, expired or revoked.

    Takes the same time for an unknown id as for a wrong secret.
    """
    match = FORM.fullmatch(presented)
    key_id, secret = match.groups() if match else ("", "")
    with ledger.transaction() as connection:
        row = connection.execute(sa.select(KEYS).where(KEYS.c.id == key_id)).mappings().one_or_none()
    same = hmac.compare_digest(digest_of(secret), row["digest"] if row else NOBODY)
    if not (row and same):
        return None
    key = as_key(row)
    ended = key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now())
    if ended:
        return None
    if key.used_at is None or now() - key.used_at > USED_EVERY_MS:
        with ledger.transaction() as connection:
            connection.execute(sa.update(KEYS).where(KEYS.c.id == key.id).values(used_at=now()))
    return key


def list_keys(ledger: Database) -> list[Key]:
    """Return all keys, oldest first."""
    with ledger.transaction() as connection:
        rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).mappings().all()
    return [as_key(row) for row in rows]


def any_key(ledger: Database) -> bool:
    """Return whether a key was ever created: from then on, nobody is answered without one."""
    with ledger.transaction() as connection:
        return connection.execute(sa.select(KEYS.c.id).limit(1)).first() is not None


def revoke_key(ledger: Database, key_id: str) -> Key:
    """Revoke a key for good; one that is revoked already stays as it is. Raises ``MisuseError`` for an unknown id."""
    with ledger.transaction() as connection:
        valid = sa.and_(KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None))
        connection.execute(sa.update(KEYS).where(valid).values(revoked_at=now()))
        row = connection.execute(sa.select(KEYS).where(KEYS.c.id == key_id)).mappings().one_or_none()
    if row is None:
        raise MisuseError(f"there is no key '{key_id}'. `lockstep keys list` shows the ids.")
    return as_key(row)


def as_key(row: sa.RowMapping) -> Key:
    """Return a row as a key, without the digest."""
    fields = {field: row[field] for field in Key.__slots__}
    return Key(**{**fields, "pipelines": tuple(row["pipelines"]), "rights": tuple(row["rights"])})


def digest_of(secret: str) -> str:
    """Return the hash of a secret: 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()
