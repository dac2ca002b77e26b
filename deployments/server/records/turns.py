"""Work that is done again and again until the service stops, and then once more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


async def in_turns(due: Callable[[], Awaitable[object]], work: Callable[[], Awaitable[None]]) -> None:
    """Do work whenever it is ``due``, until cancelled. Then finish what is under way, and do it once more.

    A turn is never broken off: what it has taken in hand would be lost. One that fails is logged, and the next one
    follows.
    """

    async def one() -> None:
        try:
            await work()
        except Exception:
            logger.exception("the service goes on, but this has to be looked at")

    turn: asyncio.Future[None] | None = None
    try:
        while True:
            await due()
            turn = asyncio.ensure_future(one())
            await asyncio.shield(turn)
    finally:
        if turn and not turn.done():
            await turn
        await one()
