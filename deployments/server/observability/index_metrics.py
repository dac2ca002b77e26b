"""Metrics of the indexes that a service answers from: the live generation, the age of the last sync, the objects."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING

from deployments.server.access.caller import LOCAL
from deployments.server.observability.index_state import look
from tasks import metrics
from tasks.errors import LockstepError

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.pipelines import Pipelines, Served
    from deployments.server.schemas import IndexState
    from tasks.retrieval.routing import Connections

logger = logging.getLogger(__name__)
EVERY_SECONDS = 15.0


class IndexMetrics:
    """Keeps the gauges of the pipelines that were asked since the service started."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._generations: dict[str, str] = {}

    async def run(self) -> None:
        """Look at the indexes now and every 15 seconds, until cancelled."""
        while True:
            for served in self._pipelines.served:
                await self.look(served)
            await asyncio.sleep(EVERY_SECONDS)

    async def look(self, served: Served) -> None:
        """Set a pipeline's gauges. What is not known keeps its last value: its age shows in `/ready` and in the log."""

        def work(block: Pipeline, connections: Connections) -> IndexState:
            return look(served.name, block, connections, LOCAL)

        try:
            found = await served.run(work, served.searches)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may be better
            told = error if isinstance(error, LockstepError) else type(error).__name__
            logger.warning("the metrics of '%s' are as they were: %s", served.name, told)
            return
        self._show_generation(served.name, found.generation)
        counts = {"answering": found.objects, "waiting": found.waiting, "quarantined": found.quarantined}
        for state, count in counts.items():
            if count is not None:
                metrics.OBJECTS.labels(served.name, state).set(count)
        for gauge, seconds in (
            (metrics.INDEX_LAG_SECONDS, found.lag_seconds),
            (metrics.LISTED_AGE_SECONDS, found.age_seconds),
        ):
            if seconds is not None:
                gauge.labels(served.name).set(seconds)
        if found.audited_at:
            audited = datetime.fromisoformat(found.audited_at).timestamp()
            metrics.CLEAN_AUDIT.labels(served.name).set(audited)

    def _show_generation(self, pipeline: str, generation: str) -> None:
        before = self._generations.get(pipeline)
        if before and before != generation:
            metrics.GENERATION.remove(pipeline, before)
        metrics.GENERATION.labels(pipeline, generation).set(1)
        self._generations[pipeline] = generation
