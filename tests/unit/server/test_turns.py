"""What is under way when the service stops is finished, and nothing that came meanwhile is left."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from deployments.server.records.turns import in_turns


def test_a_turn_under_way_is_finished_and_one_more_follows() -> None:
    done: list[list[int]] = []
    waiting = [1, 2]
    begun = asyncio.Event()

    async def write() -> None:
        taken = list(waiting)
        waiting.clear()
        begun.set()
        await asyncio.sleep(0.05)
        done.append(taken)

    async def service() -> None:
        running = asyncio.create_task(in_turns(lambda: asyncio.sleep(0), write))
        await begun.wait()
        waiting.append(3)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(service())
    assert done == [[1, 2], [3]]


def test_a_turn_that_fails_is_logged_and_the_next_one_follows(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []
    enough = asyncio.Event()

    async def write() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise RuntimeError("the first one fails")
        enough.set()

    async def service() -> None:
        running = asyncio.create_task(in_turns(lambda: asyncio.sleep(0), write))
        await enough.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(service())
    assert len(turns) >= 2
    assert "the first one fails" in caplog.text
