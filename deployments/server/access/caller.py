"""Who calls, and what they may do: keys of the ledger, or anybody on this machine while there is no key."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request

from deployments.server.errors import NoPipelineError, RequestError
from tasks.errors import LockstepError
from tasks.ledger.keys import Key, any_key, find_key
from tasks.retrieval.scope import Scope

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.access.rates import Rates
    from deployments.server.pipelines import Pipelines, Served
    from tasks.ledger.database import Database
    from tasks.ledger.keys import Right
    from tasks.retrieval.routing import Connections

T = TypeVar("T")

VALID_SECONDS = 5.0
"""How long a key is taken for valid without asking the ledger: a revoked one works so much longer."""
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: the holder of a key, or somebody on this machine, who may do everything."""

    key: Key | None = None

    @property
    def id(self) -> str:
        """The id of the key; empty without one."""
        return self.key.id if self.key else ""

    def check(self, right: Right) -> None:
        """Raise ``RequestError`` when the key does not allow this."""
        if self.key and not self.key.may(right):
            raise RequestError(f"this key has not the right '{right}'", 403, "missing_right")

    async def pipeline(self, pipelines: Pipelines, name: str | None, right: Right) -> Served:
        """Return a pipeline that the caller may use so.

        Raises ``NoPipelineError`` for one that the key does not cover, in the words for one that does not exist.
        """
        self.check(right)
        wanted = name or pipelines.default
        if self.key and not self.key.may(right, wanted):
            raise NoPipelineError.of(wanted)
        return await pipelines.named(wanted)

    def sees(self, pipeline: str) -> bool:
        """Return whether the caller may know that there is such a pipeline."""
        return self.key is None or not self.key.pipelines or pipeline in self.key.pipelines

    def scope(self, filter_: str, tenant: str) -> Scope:
        """Return what the caller's question may see. A key decides about the tenant, never the request."""
        if self.key is None:
            return Scope(filter_, tenant)
        if tenant not in ("", self.key.tenant):
            raise RequestError("tenant: it is that of the key; leave it out", 400, "tenant_of_key", "tenant")
        return Scope(filter_, self.key.tenant)


LOCAL = Caller()


class Access:
    """Finds out who calls.

    ``local`` lets callers without a key in while there is no key at all. ``own_key`` is that of the home's commands.
    """

    def __init__(self, pipelines: Pipelines, local: bool, own_key: str = "") -> None:
        self._pipelines, self._local, self._own_key = pipelines, local, own_key.encode()
        self._known: dict[str, tuple[float, Key]] = {}
        self._keys_asked, self._keyed = float("-inf"), True

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return who calls. Raises ``RequestError`` 401 without a valid key, unless none is needed."""
        presented = presented_key(headers)
        if not presented:
            if self._local and not await self._is_keyed():
                return LOCAL
            raise RequestError("send a key: 'Authorization: Bearer lsk_…' (see `lockstep keys`)", 401, "no_key")
        if self._own_key and hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), self._own_key):
            return LOCAL
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
        known = self._known.get(digest)
        if known and time.monotonic() - known[0] < VALID_SECONDS and not _expired(known[1]):
            return Caller(known[1])
        key = await self._asked(lambda ledger: find_key(ledger, presented))
        if key is None:
            self._known.pop(digest, None)
            raise RequestError("this key is unknown, expired or revoked", 401, "invalid_key")
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = time.monotonic(), key
        return Caller(key)

    async def _is_keyed(self) -> bool:
        """Return whether there is a key. While the ledger is away, what was known last holds; at first: there is."""
        if time.monotonic() - self._keys_asked > VALID_SECONDS:
            try:
                self._keyed = await self._asked(any_key)
                self._keys_asked = time.monotonic()
            except LockstepError:
                if self._keys_asked == float("-inf"):
                    raise
        return self._keyed

    async def _asked(self, ask: Callable[[Database], T]) -> T:
        served = await self._pipelines.named(None)

        def work(_pipeline: Pipeline, connections: Connections) -> T:
            if isinstance(connections.ledger, LockstepError):
                raise connections.ledger
            return ask(connections.ledger)

        return await served.run(work, served.searches)


def presented_key(headers: Mapping[str, str]) -> str:
    """Return the key that a request carries: as a bearer token, or in X-API-Key or api-key; empty without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip() and token.strip() != "none":
        return token.strip()
    return (headers.get("x-api-key") or headers.get("api-key") or "").strip()


def _expired(key: Key) -> bool:
    return key.expires_at is not None and key.expires_at <= time.time() * 1000


async def caller_of(request: Request) -> Caller:
    """Return who calls. Raises ``RequestError`` 401 without a valid key, 429 beyond the rate.

    Requests with a wrong key count for their address, so that nobody can try many.
    """
    access: Access = request.app.state.access
    address = f"address {request.client.host}" if request.client else "address"
    try:
        caller = await access.caller(request.headers)
    except RequestError:
        await count(request, address)
        raise
    if caller is not LOCAL:
        await count(request, f"key {caller.id}")
    request.state.caller = caller
    return caller


async def count(request: Request, who: str) -> None:
    """Count a request, and have its answer tell what is left. Raises ``RequestError`` 429 beyond the rate."""
    rates: Rates = request.app.state.rates
    left = await rates.hit(who)
    request.state.headers = left.headers if left else {}
    if left and not left.allowed:
        raise RequestError(
            f"more than {left.limit} requests in {left.window} s; the next one may come in {max(left.seconds, 1)} s",
            429,
            "rate_limited",
        )


Calling = Annotated[Caller, Depends(caller_of)]
