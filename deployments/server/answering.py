"""Answers under way: made in a thread, told piece by piece, and ended when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from tasks import metrics
from tasks.errors import StoppedError
from tasks.listeners import Stop, reader, stop
from tasks.models import Answer, Checked

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.pipelines import Served
    from tasks.retrieval.routing import Connections

    Make = Callable[[Pipeline, Connections], Answer]


class Answering:
    """An answer that is being made. Use it in a ``with``: leaving that ends what is still going on."""

    def __init__(self, served: Served, make: Make) -> None:
        self._served, self._make, self._stop = served, make, Stop()
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Checked | None] = asyncio.Queue()
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._served.run(self._in_thread, served.answers))
        self._task.add_done_callback(lambda _done: self._pieces.put_nowait(None))

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        """End the answer, if it is not whole: the chat model stops writing it."""
        self._stop.set()
        self._task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks
        self._task.cancel()

    async def pieces(self) -> AsyncIterator[Checked]:
        """Yield the pieces of a generated answer, each one checked, as they come. Then :meth:`answer` is at hand."""
        first = True
        while piece := await self._pieces.get():
            if first and piece.claims:
                first = False
                metrics.FIRST_CLAIM_SECONDS.observe(time.monotonic() - self._began)
            yield piece

    async def answer(self) -> Answer:
        """Return the whole answer. Raises what making it raised."""
        made = await asyncio.shield(self._task)
        count(made, self._served.name)
        return made

    def _in_thread(self, pipeline: Pipeline, connections: Connections) -> Answer:
        if self._stop:
            raise StoppedError("whoever asked has gone")
        listening, stopping = reader.set(self._tell), stop.set(self._stop)
        try:
            return self._make(pipeline, connections)
        finally:
            reader.reset(listening)
            stop.reset(stopping)

    def _tell(self, piece: Checked) -> None:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


def count(made: Answer, pipeline: str) -> None:
    """Count an answer in the metrics."""
    metrics.ANSWERS.labels(made.mode, pipeline).inc()
    if made.cached:
        metrics.CACHED.labels(pipeline).inc()
    for claim in made.claims:
        metrics.CLAIMS.labels(str(claim.verified).lower()).inc()
    for citation in made.citations:
        metrics.CITATIONS.labels(str(citation.verified).lower()).inc()
    for stage, seconds in made.seconds.items():
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)
