"""How many requests a key, or an address without a key, may send in a time: counted here, or in Redis for replicas."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from tasks import metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a rate: ``left`` requests until ``seconds`` from now, of ``limit`` in ``window`` seconds."""

    limit: int
    window: int
    left: int
    seconds: int
    allowed: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell it: those of the IETF draft (RateLimit, RateLimit-Policy), and OpenAI's."""
        told = {
            "ratelimit-policy": f'"key";q={self.limit};w={self.window}',
            "ratelimit": f'"key";r={self.left};t={self.seconds}',
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.left),
            "x-ratelimit-reset-requests": f"{self.seconds}s",
        }
        return told if self.allowed else {**told, "retry-after": str(max(self.seconds, 1))}


class Rates:
    """Counts the requests of each caller in a sliding window. ``rate`` is such as ``600/minute``; empty: no limit.

    Replicas that share ``redis_url`` share the counts. While Redis is away, requests are let through: a part that only
    counts must not stop the service.
    """

    def __init__(self, rate: str = "", redis_url: str = "") -> None:
        self._item: RateLimitItem | None = parse(rate) if rate else None
        storage = RedisStorage(f"async+{redis_url}", implementation="redispy") if redis_url else MemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, who: str) -> Allowance | None:
        """Count a request. Return what is left; None without a limit."""
        if self._item is None:
            return None
        try:
            allowed = await self._limiter.hit(self._item, who)
            stats = await self._limiter.get_window_stats(self._item, who)
        except Exception as error:  # noqa: BLE001 - whatever Redis' client raises
            metrics.UNCOUNTED.inc()
            logger.warning("requests are not counted: Redis does not answer (%s)", type(error).__name__)
            return None
        left = stats.remaining if allowed else 0
        seconds = math.ceil(max(stats.reset_time - time.time(), 0))
        return Allowance(self._item.amount, self._item.get_expiry(), left, seconds, allowed)
