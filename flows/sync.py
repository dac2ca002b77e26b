"""Make a generation equal to the bucket: the live one, or one that is being built.

    bucket ──list──▶ plan ──ledger──▶ batches ──▶ waves ──▶ index_wave ──▶ judge ──▶ report

Whatever started it, an event, a schedule or a person, it does the same: it trusts only the listing. What is
to be written or deleted is recorded before Milvus is touched, so a sync that dies is finished by the next.
The first sync of a pipeline builds its first generation, which answers from its end on, as any other one does.
"""

from __future__ import annotations

import time

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.settings import Settings
from flows.index_wave import Wave, run_wave
from flows.run_names import rename_run
from flows.without_heartbeat import without_heartbeat
from tasks.batches import Stage, batched, recorded, waves
from tasks.canary import canary_of
from tasks.errors import OutageError
from tasks.failures import failed
from tasks.generation import generation
from tasks.generations import add_cost
from tasks.judge import judge
from tasks.lease import writing
from tasks.models import SyncReport
from tasks.pipelines import load_pipeline
from tasks.plan import Plan, plan
from tasks.report import failures_markdown, sync_markdown
from tasks.retries import patiently
from tasks.settle import MANY, settle
from tasks.swap import nothing_answers, publish
from tasks.tally import Tally
from tasks.tools import Tools, connect
from tasks.totals import Totals, totals

FAILURES_SHOWN = 100
STAGES: tuple[Stage, ...] = ("renamed", "deleted", "written")


@flow(name="sync", flow_run_name="sync {pipeline}")
def sync(pipeline: str = "docs", settings: Settings | None = None, into: str | None = None) -> SyncReport:
    """Bring the pipeline's live generation in step with its bucket and return what was done.

    ``into`` names another collection, which is written with the settings it was begun with. ``settings`` replaces
    the pipeline's own for this run. Raises ``FingerprintError`` when they are not those that the generation was
    built with, ``OutageError`` when more objects fail than files can be bad.
    """
    started, say = time.monotonic(), get_run_logger().info
    block = load_pipeline(pipeline)
    block = block.model_copy(update={"settings": settings or block.settings})
    with connect(block, flow_run.id or "") as tools:
        collection = generation(tools, block.alias, into, settings is None, say)
        first = into is None and nothing_answers(tools)
        described = f"sync of '{pipeline}' ({flow_run.name})"
        with writing(tools.ledger, collection, described, block.settings.wait_for_writer_seconds, say) as check:
            tools.check_writer = tools.store.check_writer = check
            todo = plan(tools, collection)
            rename_run(f"sync {collection}: {todo}")
            if todo.left_out:
                get_run_logger().warning("%s objects are left out: %s", f"{todo.left_out:,}", "; ".join(todo.named))
            tools.progress.planned(todo.todo)
            done = Tally(todo.new + todo.changed)
            try:
                for stage in STAGES:
                    work_off(tools, collection, stage, done)
            except OutageError:
                show_failures(pipeline, tools, collection)
                raise
            judge(tools, collection)
            if done.chunks_embedded + done.chunks_reused >= MANY:
                settle(tools, collection)
        if first:
            publish(tools, collection, say)
        held = totals(tools, collection)
        going = patiently(canary_of)(tools.ledger, block.alias) if into is None else None
        report = summary(collection, todo, done, held, time.monotonic() - started)
        if first:
            add_cost(tools.ledger, collection, report.chunks_embedded, report.chunks_reused, report.seconds)
    create_markdown_artifact(
        sync_markdown(report, held.states, done.changes, held.quarantined, tools.settings),
        key=f"sync-{pipeline}",
        description=f"What this sync of {pipeline} changed",
    )
    say("%s is in step with the bucket: %s, %s chunks embedded", collection, todo, f"{report.chunks_embedded:,}")
    if going and going.live == collection != going.collection:
        sync(pipeline, settings, into=going.collection)  # it answers a share of the questions
    return report


def work_off(tools: Tools, collection: str, stage: Stage, done: Tally) -> None:
    """Do the work that the ledger has recorded for a stage, wave by wave, and add it to the tally."""
    batches = batched(recorded(tools.ledger, collection, stage), tools.settings)
    for number, wave in enumerate(waves(batches, tools.settings), start=1):
        with without_heartbeat():
            run_wave(stage, number, Wave(tools, collection, wave, done))
        done.check(tools.settings)


def summary(collection: str, todo: Plan, done: Tally, held: Totals, seconds: float) -> SyncReport:
    """Put the numbers of a sync together."""
    return SyncReport(
        collection=collection,
        new=todo.new,
        changed=todo.changed,
        deleted=todo.deleted,
        unchanged=todo.unchanged,
        quarantined=held.states.get("quarantined", 0),
        moved_on=done.moved_on,
        left_out=todo.left_out,
        left_out_named=todo.named,
        chunks_embedded=done.chunks_embedded,
        chunks_reused=done.chunks_reused,
        chunks_deleted=done.chunks_deleted,
        seconds=round(seconds, 3),
        flow_run_id=flow_run.id or "",
    )


def show_failures(pipeline: str, tools: Tools, collection: str) -> None:
    """Leave an artifact of what could not be indexed, for the person who looks why the run stopped."""
    create_markdown_artifact(
        failures_markdown(collection, failed(tools.ledger, collection, tools.flow_run_id, FAILURES_SHOWN)),
        key=f"sync-{pipeline}",
        description=f"Why this sync of {pipeline} stopped",
    )
