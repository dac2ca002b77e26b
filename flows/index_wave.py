"""Index one wave of batches. A sync consists of waves of bounded size.

    parse ──▶ chunk ──▶ embed ──▶ upsert ──▶ prune ──▶ record        mapped over the batches of the wave
                                                                     delete for deleted objects

While one batch is embedded, the next ones are fetched and parsed, and the one before is pruned. The results of the
tasks are released at the end of the wave, so memory does not grow with the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefect import flow, unmapped
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.prefect_runs import plainly
from tasks.indexing.steps import chunk, delete, embed, parse, parse_plainly, prune, record, upsert
from tasks.models import ObjectRef
from tasks.sanitize import inert
from tasks.task_runs import run_logger

if TYPE_CHECKING:
    from tasks.indexing.batches import Stage
    from tasks.indexing.outcome import Outcome, Tally
    from tasks.resources import Resources

STEPS = 6
"""Number of mapped tasks per batch, at most."""


class Wave:
    """The work of one wave. Opaque to Prefect, so that Prefect does not store all of it with the run."""

    __slots__ = ("batches", "collection", "done", "first", "resources")

    def __init__(self, resources: Resources, collection: str, batches: list[list[ObjectRef]], done: Tally) -> None:
        self.resources = resources
        self.collection = collection
        self.batches = batches
        self.first = done.batches + 1
        self.done = done


def write_in_turn(cut: Iterable[Any], work: Wave, numbers: range) -> tuple[list[Any], list[Any]]:
    """Embed each batch after the one before is written, so that a run that dies loses one piece's vectors at most."""
    embedded: list[Any] = []
    upserted: list[Any] = []
    for batch, number in zip(cut, numbers, strict=True):
        embedded.append(
            embed.submit(batch, work.resources, work.collection, number, wait_for=upserted[-1:], return_state=False)
        )
        upserted.append(upsert.submit(embedded[-1], work.resources, work.collection, number))
    return embedded, upserted


def outcomes(*steps: Iterable[PrefectFuture[Any]]) -> list[Any]:
    """Wait for mapped steps and return the results of the last. Raises the first error, in order of steps."""
    for step in steps:
        for future in step:
            future.wait()
            if future.state.is_failed() or future.state.is_crashed():
                future.result()
    return [future.result() for future in steps[-1]]


@flow(name="index wave", flow_run_name="{stage} {objects}, wave {number}", validate_parameters=False)
def index_wave(stage: Stage, number: int, objects: str, work: Wave) -> None:  # noqa: ARG001 - they name the run
    """Write or delete the objects of a wave, and add the outcomes to the sync's tally.

    Returns nothing, since a parent flow holds the results of its sub-flows until it ends.
    """
    resources, on = unmapped(work.resources), unmapped(work.collection)
    numbers = range(work.first, work.first + len(work.batches))
    if stage == "deleted":
        found = outcomes(delete.map(work.batches, resources, on, numbers))
    else:
        parsed = parse.map(work.batches, resources, numbers)
        cut = chunk.map(parsed, resources, numbers)
        embedded, upserted = write_in_turn(cut, work, numbers)
        pruned = prune.map(upserted, resources, on, numbers)
        found = outcomes(parsed, cut, embedded, upserted, pruned, record.map(upserted, pruned, resources, on, numbers))
    for outcome in found:
        note(stage, outcome, work.done)


def note(stage: Stage, outcome: Outcome, done: Tally) -> None:
    """Add a batch to the sync's tally, and log what failed in it."""
    done.add(stage, outcome)
    for failure in outcome.failures:
        run_logger().warning("cannot index '%s': %s", inert(failure.ref.key), inert(failure.reason))


def run_wave(stage: Stage, number: int, work: Wave) -> None:
    """Run a wave with a thread for each task, so that steps wait only for each other, not for threads."""
    runner: Any = ThreadPoolTaskRunner(max_workers=STEPS * len(work.batches))
    count = sum(len(batch) for batch in work.batches)
    objects = f"{count:,} object{'s' * (count != 1)}"
    index_wave.with_options(task_runner=runner)(stage, number, objects, work)


def run_plainly(stage: Stage, work: Wave) -> None:
    """Do a wave's steps as plain functions, with the same retries.

    The sync of a few keys does so: it is quicker, and leaves one row in Prefect's history instead of ten.
    """
    resources, on = work.resources, work.collection
    for number, batch in enumerate(work.batches, start=work.first):
        if stage == "deleted":
            outcome = plainly(delete)(batch, resources, on, number)
        else:
            cut = chunk.fn(parse_plainly(batch, resources), resources, number)
            written = plainly(upsert)(plainly(embed)(cut, resources, on, number), resources, on, number)
            outcome = plainly(record)(written, plainly(prune)(written, resources, on, number), resources, on, number)
        note(stage, outcome, work.done)
