"""The report of a day: what a pipeline was asked and how it answered, as an artifact in the Prefect UI.

The ledger has the numbers, so a restart loses none. While Prefect is away, the report waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from deployments.server.pipelines import once
from deployments.server.records.turns import in_turns
from tasks.errors import LockstepError
from tasks.ledger.answers import day_of_answers
from tasks.text.markdown import inline, table

if TYPE_CHECKING:
    from uuid import UUID

    from blocks.pipeline import Pipeline
    from deployments.server.pipelines import Served
    from tasks.retrieval.routing import Connections

logger = logging.getLogger(__name__)
EVERY_SECONDS = 300.0
PERCENTILES = (50, 95, 99)
MODES = ("generated", "extractive", "abstained")


class DayReports:
    """Writes the reports of days on which something changed: at once the first time, then at intervals."""

    def __init__(self) -> None:
        self._changed: set[tuple[Served, str]] = set()
        self._wake = asyncio.Event()
        self._written: dict[tuple[Served, str], UUID] = {}
        self._next = float("-inf")

    def note(self, served: Served, at: int) -> None:
        """Note that the answers of a day changed; ``at`` is a time of that day, in ms since 1970."""
        self._changed.add((served, day_of(at)))
        self._wake.set()

    async def run(self) -> None:
        """Write what changed, at intervals, until cancelled; then once more."""
        await in_turns(self._due, self.write)

    async def _due(self) -> None:
        """Wait until something has changed, and the last reports are not too young."""
        await self._wake.wait()
        await asyncio.sleep(max(self._next - time.monotonic(), 0.0))
        self._wake.clear()
        self._next = time.monotonic() + EVERY_SECONDS

    async def write(self) -> None:
        """Write the reports of what changed. What cannot be written now is tried again at the next interval."""
        for served, day in sorted(self._changed, key=lambda one: (one[0].name, one[1])):
            self._changed.discard((served, day))
            try:
                shown = await self._shown(served, day)
                if shown:
                    await asyncio.to_thread(self._publish, served, day, shown)
            except Exception as error:  # noqa: BLE001 - Prefect or the ledger is away, which costs no answer
                logger.warning("the report of %s for %s is not written yet: %s", day, served.name, type(error).__name__)
                self.note(served, begin_of(day))

    async def _shown(self, served: Served, day: str) -> str:
        def read(_pipeline: Pipeline, connections: Connections) -> str:
            if isinstance(connections.ledger, LockstepError):
                raise connections.ledger
            rows = day_of_answers(connections.ledger, served.name, begin_of(day), begin_of(day, 1))
            return day_markdown(served.name, day, rows) if rows else ""

        return await served.run(read, served.searches)

    def _publish(self, served: Served, day: str, shown: str) -> None:
        """Save a report, and delete the one of the same day before it: the UI then shows one for each day."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate

        artifact = ArtifactCreate(
            key=f"answers-{served.name}", type="markdown", data=shown, description=f"Answers of {day} (UTC)"
        )
        with once(), get_client(sync_client=True) as client:
            made = client.create_artifact(artifact).id
            before = self._written.pop((served, day), None)
            self._written[served, day] = made
            if before:
                with suppress(Exception):  # two reports of a day are no harm
                    client.delete_artifact(before)


def day_of(at: int) -> str:
    """Return the day in UTC of a time in ms since 1970, such as 2026-01-31."""
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def begin_of(day: str, after: int = 0) -> int:
    """Return when a day begins in UTC, or one so many days after it, in ms since 1970."""
    return int((datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=after)).timestamp() * 1000)


def day_markdown(pipeline: str, day: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the report of a day: modes, checks and thumbs, seconds by stage, generations.

    ``rows`` are the day's records, at least one, as ``day_of_answers`` returns them.
    """
    until = datetime.fromtimestamp(max(row["at"] for row in rows) / 1000, UTC)
    modes = Counter(row["mode"] for row in rows)
    answers = [[mode, *share(modes[mode], len(rows))] for mode in MODES]
    answers.append(["from the answer cache", *share(sum(row["cached"] for row in rows), len(rows))])
    verdicts = Counter(row["verdict"] for row in rows)
    claims = sum(row["claims"] for row in rows)
    checks = [
        ["claims without a verified quote", *share(sum(row["unverified"] for row in rows), claims)],
        ["thumbs up", *share(verdicts["up"], len(rows))],
        ["thumbs down", *share(verdicts["down"], len(rows))],
    ]
    generations = Counter(row["collection"] for row in rows)
    parts = [
        f"# {inline(pipeline)}: {day}",
        f"Questions answered by {until:%H:%M} UTC: {len(rows):,}.",
        table(["answers", "", "share"], answers),
        table(["checks", "", "share"], checks),
        "## Seconds",
        table(["stage", "answers", *(f"p{one}" for one in PERCENTILES)], latencies(rows)),
        "## Generations",
        table(["generation", "answers"], [[name, f"{count:,}"] for name, count in generations.most_common()]),
    ]
    return "\n\n".join(parts)


def share(part: int, whole: int) -> list[str]:
    """Return a number and its share of a whole, as cells."""
    return [f"{part:,}", f"{part / whole:.1%}" if whole else "–"]


def latencies(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row of percentiles for each stage, the total first. A stage counts the answers that went through it."""
    stages: dict[str, list[float]] = {"total": []}
    for row in rows:
        for stage, seconds in row["seconds"].items():
            stages.setdefault(stage, []).append(seconds)
    return [
        [stage, f"{len(times):,}", *(f"{one:.3f}" for one in np.percentile(times, PERCENTILES))]
        for stage, times in stages.items()
        if times
    ]
