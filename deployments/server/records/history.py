"""What the service remembers of its answers: rows in the ledger, events and a table of the day in the Prefect UI.

All of it happens beside the answers: a ledger or a Prefect that is away costs records, never answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from deployments.server.records.day_report import DayReports
from deployments.server.records.turns import in_turns
from tasks import metrics
from tasks.errors import LockstepError
from tasks.ledger.answers import Record, hash_of, prune_answers, record_answers
from tasks.ledger.database import now

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.access.caller import Caller
    from deployments.server.pipelines import Served
    from tasks.models import Answer
    from tasks.retrieval.routing import Connections

logger = logging.getLogger(__name__)
EVENT = "lockstep.question.answered"
EVERY_SECONDS = 1.0
MOST_WAITING = 10_000
"""Records that wait for a ledger that is away; the oldest go first."""
EVENTS_A_TURN = 10
"""More answers than that in a turn become one event of them all."""
PRUNED_EVERY_SECONDS = 3600.0
DAY_MS = 86_400_000


class History:
    """Records answers, some at a time."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Served, Record]] = deque(maxlen=MOST_WAITING)
        self._pruned: dict[str, float] = {}
        self._reports = DayReports()

    def add(self, served: Served, caller: Caller, route: str, made: Answer, answer_id: str, *, keep_text: bool) -> str:
        """Take in an answer; return the id under which it is judged later."""
        if len(self._waiting) == MOST_WAITING:
            metrics.RECORDS_LOST.inc()
        record = Record(
            id=answer_id,
            at=now(),
            pipeline=served.name,
            tenant=caller.key.tenant if caller.key else "",
            key_id=caller.id,
            route=route,
            question_hash=hash_of(made.question),
            collection=made.collection,
            mode=made.mode,
            question=made.question if keep_text else None,
            chunk_ids=tuple(hit.chunk_id for hit in made.passages),
            cached=made.cached,
            claims=len(made.claims),
            unverified=sum(not claim.verified for claim in made.claims),
            tokens=made.tokens,
            seconds=made.seconds,
            cited=tuple(dict.fromkeys(one.key for one in made.citations if one.verified)),
        )
        self._waiting.append((served, record))
        return answer_id

    def judged(self, served: Served) -> None:
        """Take note that somebody judged an answer: the report of the day shows it."""
        self._reports.note(served, now())

    async def run(self) -> None:
        """Write what waits, every second, until cancelled; then once more, and the reports of the day after it."""
        reporting = asyncio.create_task(self._reports.run())
        try:
            await in_turns(lambda: asyncio.sleep(EVERY_SECONDS), self.write)
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting

    async def write(self) -> None:
        """Write what waits. What the ledger does not take now waits on."""
        some = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for served in {served for served, _ in some}:
            records = [record for of, record in some if of is served]
            try:
                await served.run(partial(_record, records), served.searches)
            except LockstepError as error:
                logger.warning("answers are not recorded yet: %s", error)
                self._waiting.extendleft((served, record) for record in reversed(records))
                continue
            for record in records:
                self._reports.note(served, record.at)
            await asyncio.to_thread(emit, served.name, records)
            await self._prune(served)

    async def _prune(self, served: Served) -> None:
        """Delete the records that are older than the pipeline keeps them, once an hour."""
        if time.monotonic() - self._pruned.get(served.name, float("-inf")) < PRUNED_EVERY_SECONDS:
            return
        self._pruned[served.name] = time.monotonic()

        def prune(pipeline: Pipeline, connections: Connections) -> None:
            if not isinstance(connections.ledger, LockstepError):
                prune_answers(connections.ledger, now() - int(pipeline.settings.record_days * DAY_MS))

        with suppress(LockstepError):
            await served.run(prune, served.searches)


def _record(records: Sequence[Record], _pipeline: Pipeline, connections: Connections) -> None:
    if isinstance(connections.ledger, LockstepError):
        raise connections.ledger
    record_answers(connections.ledger, records)


def emit(pipeline: str, records: Sequence[Record]) -> None:
    """Tell Prefect of answers: one event each, or one of many where there are many. Never what was asked."""
    from prefect.events import emit_event

    resource = {"prefect.resource.id": f"lockstep.pipeline.{pipeline}", "prefect.resource.name": pipeline}
    some = [summary([one]) for one in records] if len(records) <= EVENTS_A_TURN else [summary(records)]
    for payload in some:
        with suppress(Exception):  # Prefect is away: the ledger has the record
            emit_event(EVENT, resource=resource, payload=payload)


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return what an event says of some answers."""
    modes = [record.mode for record in records]
    totals = sorted(record.seconds.get("total", 0.0) for record in records)
    return {
        "answers": len(records),
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
        "cached": sum(record.cached for record in records),
        "claims": sum(record.claims for record in records),
        "unverified": sum(record.unverified for record in records),
        "seconds": {"median": totals[len(totals) // 2], "most": totals[-1]},
        "generations": sorted({record.collection for record in records}),
        "ids": [record.id for record in records[:EVENTS_A_TURN]],
    }
