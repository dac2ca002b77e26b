"""Make a generation equal to the bucket: the live one, or one that is being built.

    bucket ──list──▶ plan ──ledger──▶ batches ──▶ waves ──▶ index_wave ──▶ quarantine ──▶ report

An event, a schedule and a person all start the same sync. It trusts only the listing. The work is recorded before
Milvus is changed, so the next sync finishes one that died. The first sync of a pipeline builds its first generation,
which answers only when the sync is done.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import cast

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.settings import Settings
from flows.line import left, stand_in_line, unattended
from flows.prefect_runs import rename_run
from flows.progress import Progress
from flows.sync_keys import sync_keys
from flows.work import begin, catch_up, delete_all_the_same, judge, summary
from tasks.errors import DeletionError, FingerprintError, OutageError
from tasks.generations.swap import nothing_answers, publish
from tasks.indexing.finish import MANY, flush, totals
from tasks.indexing.outcome import Tally
from tasks.indexing.plan import Plan, plan
from tasks.indexing.plan_keys import plan_keys
from tasks.indexing.report import deletions_markdown, failures_markdown, sync_markdown
from tasks.ledger.canary import canary_of
from tasks.ledger.changes import forget_listed
from tasks.ledger.generations import add_cost, record_sync
from tasks.ledger.quarantine import failed
from tasks.models import SyncReport
from tasks.pipelines import load_pipeline
from tasks.resources import Consent, Resources, connect
from tasks.retries import patiently
from tasks.sanitize import inert

FAILURES_SHOWN = 100


@flow(name="sync", flow_run_name="sync {pipeline}")
def sync(
    pipeline: str = "docs",
    settings: Settings | None = None,
    into: str | None = None,
    allow_deletions: bool = False,
    accept_source: bool = False,
    keys: list[str] | None = None,
) -> SyncReport:
    """Bring the pipeline's live generation in step with its bucket, or with some ``keys`` of it, and return a report.

    ``into`` names another collection, which is written with the settings it was begun with. ``settings`` replaces
    the pipeline's own for this run. A run of the deployment waits until the current writer is done. If another run
    already waits, this one ends at once, unless it carries a person's consent.

    Raises ``FingerprintError`` when the generation was built with other settings; then only deletions are carried
    out. Raises ``OutageError`` when too many objects fail. Raises ``DeletionError`` when too much would be deleted
    without consent (``allow_deletions``). Raises ``SourceError`` when the generation holds another bucket or another
    ledger keeps it (``accept_source`` takes it over).
    """
    started, logger = time.monotonic(), get_run_logger()
    block = load_pipeline(pipeline)
    block = block.model_copy(update={"settings": settings or block.settings})
    consent = Consent(allow_deletions, accept_source)
    if keys is not None and (of_keys := sync_keys(pipeline, block, keys, consent, into, as_saved=settings is None)):
        return of_keys
    described, wait = f"sync of '{pipeline}' ({flow_run.name})", block.settings.wait_for_writer_seconds
    with connect(block, flow_run.id or "", consent) as resources, ExitStack() as line:
        if unattended() and settings is None and into is None and consent == Consent():
            if not stand_in_line(line, resources.ledger, block.alias, described):
                return cast(SyncReport, left(block.alias))
            wait = math.inf
        lease = partial(resources.writing, described=described, wait_seconds=wait)
        with ExitStack() as work:
            try:
                collection = begin(work, resources, into, settings is None, lease)
            except FingerprintError as error:
                delete_all_the_same(resources, error.collection, lease, line, alone=into is not None)
                raise
            line.close()
            first = into is None and nothing_answers(resources)
            listed_at = patiently(resources.ledger.moment)()
            todo = planned(pipeline, resources, collection)
            rename_run(f"sync {collection}: {todo}")
            if todo.left_out:
                get_run_logger().warning(
                    "%s objects are left out: %s", f"{todo.left_out:,}", inert("; ".join(todo.named))
                )
            resources.progress.planned(todo.todo)
            done, progress = Tally(todo.new + todo.changed), Progress(pipeline, todo.todo)
            try:
                catch_up(resources, collection, done, described, alone=into is not None, show=progress.show)
            except OutageError:
                show_failures(pipeline, resources, collection)
                raise
            judge(resources, pipeline, collection)
            if done.chunks_embedded + done.chunks_reused >= MANY:
                flush(resources, collection)
        record_sync(resources.ledger, collection, listed_at)
        if into is None:
            patiently(forget_listed)(resources.ledger, block.alias, listed_at)
        if first:
            publish(resources, collection)
        held = totals(resources, collection)
        canary = patiently(canary_of)(resources.ledger, block.alias) if into is None else None
        report = summary(collection, todo, done, held.states.get("quarantined", 0), time.monotonic() - started)
        if first:
            add_cost(resources.ledger, collection, report.chunks_embedded, report.chunks_reused, report.seconds)
    create_markdown_artifact(
        sync_markdown(report, held.states, done.changes, held.quarantined, resources.settings),
        key=f"sync-{pipeline}",
        description=f"Changes by this sync of {pipeline}",
    )
    logger.info(
        "%s is in step with the bucket: %s, %s chunks embedded", collection, todo, f"{report.chunks_embedded:,}"
    )
    if canary and canary.live == collection != canary.collection:
        sync(pipeline, settings, canary.collection, **asdict(consent))  # the canary answers a share of the questions
    return report


def planned(pipeline: str, resources: Resources, collection: str) -> Plan:
    """Record the work of this sync. If that raises ``DeletionError``, save the numbers as an artifact."""
    try:
        todo = plan(resources, collection)
        # The listing may be behind what a sync of keys has seen.
        return todo.with_those(plan_keys(resources, collection, todo.doubtful)) if todo.doubtful else todo
    except DeletionError as error:
        create_markdown_artifact(
            deletions_markdown(collection, str(error), error.loss),
            key=f"sync-{pipeline}",
            description=f"Why this sync of {pipeline} stopped",
        )
        raise


def show_failures(pipeline: str, resources: Resources, collection: str) -> None:
    """Save an artifact with the failed objects that stopped the run."""
    create_markdown_artifact(
        failures_markdown(collection, failed(resources.ledger, collection, resources.flow_run_id, FAILURES_SHOWN)),
        key=f"sync-{pipeline}",
        description=f"Why this sync of {pipeline} stopped",
    )
