"""Make the live generation equal to the bucket.

    bucket ──list──▶ plan ──ledger──▶ batches ──▶ waves ──▶ index_wave ──▶ report

Whatever started it, an event, a schedule or a person, it does the same: it trusts only the listing. What is
to be written or deleted is recorded before Milvus is touched, so a sync that dies is finished by the next.
"""

from __future__ import annotations

import time
from dataclasses import replace

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.settings import Settings
from flows.index_wave import Wave, run_wave
from flows.run_names import rename_run
from flows.without_heartbeat import without_heartbeat
from tasks.batches import Stage, batched, recorded, waves
from tasks.generation import generation
from tasks.lease import writing
from tasks.models import SyncReport
from tasks.pipelines import load_pipeline
from tasks.plan import plan
from tasks.report import QUARANTINE_SHOWN, sync_markdown
from tasks.tally import Tally
from tasks.tools import Tools

STAGES: tuple[Stage, ...] = ("renamed", "deleted", "written")


@flow(name="sync", flow_run_name="sync {pipeline}")
def sync(pipeline: str = "docs", settings: Settings | None = None) -> SyncReport:
    """Bring the pipeline's live generation in step with its bucket and return what was done.

    ``settings`` replaces the pipeline's own for this run. Raises ``FingerprintError`` when they are not
    those that the generation was built with.
    """
    started, say = time.monotonic(), get_run_logger().info
    block = load_pipeline(pipeline)
    settings = settings or block.settings
    block = block.model_copy(update={"settings": settings})
    with Tools(block, settings, flow_run.id or "") as tools:
        collection = generation(tools, block.alias, say)
        described = f"sync of '{pipeline}' ({flow_run.name})"
        with writing(tools.ledger, collection, described, settings.wait_for_writer_seconds, say) as check:
            tools.check_writer = check
            todo = plan(tools, collection)
            rename_run(f"sync {collection}: {todo}")
            tools.progress.planned(todo.todo)
            done = Tally()
            for stage in STAGES:
                work_off(tools, collection, stage, done)
        totals = tools.ledger.totals(collection)
        report = SyncReport(
            collection=collection,
            new=todo.new,
            changed=todo.changed,
            deleted=todo.deleted,
            unchanged=todo.unchanged,
            quarantined=totals.get("quarantined", 0),
            moved_on=done.moved_on,
            chunks_embedded=done.chunks_embedded,
            chunks_reused=done.chunks_reused,
            chunks_deleted=done.chunks_deleted,
            flow_run_id=tools.flow_run_id,
        )
        quarantined = tools.ledger.quarantined(collection, QUARANTINE_SHOWN)
    report = replace(report, seconds=round(time.monotonic() - started, 3))
    create_markdown_artifact(
        sync_markdown(report, totals, done.changes, quarantined, settings),
        key=f"sync-{pipeline}",
        description=f"What this sync of {pipeline} changed",
    )
    say("%s is in step with the bucket: %s, %s chunks embedded", collection, todo, f"{report.chunks_embedded:,}")
    return report


def work_off(tools: Tools, collection: str, stage: Stage, done: Tally) -> None:
    """Do the work that the ledger has recorded for a stage, wave by wave, and add it to the tally."""
    batches = batched(recorded(tools.ledger, collection, stage), tools.settings)
    for number, wave in enumerate(waves(batches, tools.settings), start=1):
        with without_heartbeat():
            run_wave(stage, number, Wave(tools, collection, wave, done))
