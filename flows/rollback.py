"""Roll back to an earlier generation: move the alias in one call, then sync the changes it missed."""

from __future__ import annotations

import time
from dataclasses import asdict

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.prefect_runs import rename_run
from flows.sync import sync
from tasks.errors import FingerprintError
from tasks.evaluation.warmup import warm
from tasks.generations.claims import check_source
from tasks.generations.swap import swap, to_go_back_to
from tasks.models import Swap, SyncReport
from tasks.pipelines import load_pipeline, still_saved
from tasks.resources import Consent, connect


@flow(name="rollback", flow_run_name="roll {pipeline} back")
def rollback(
    pipeline: str = "docs",
    to: int | None = None,
    allow_deletions: bool = False,
    accept_source: bool = False,
    force: bool = False,
) -> Swap:
    """Point the pipeline's alias at the previously live generation, or at a given number, and sync it.

    The saved pipeline gets the settings of that generation. During a canary, a rollback without ``to`` ends the canary
    instead. Raises ``MisuseError`` without a generation to roll back to, and ``FingerprintError`` when this version of
    Lockstep cannot sync it. ``force`` rolls back anyway, and then only deletions reach the generation.
    ``allow_deletions`` and ``accept_source`` are those of the sync. If the sync is refused, the alias stays moved, and
    the generation stays as it was.
    """
    started, logger = time.monotonic(), get_run_logger()
    block = load_pipeline(pipeline)
    consent = Consent(allow_deletions, accept_source)
    with connect(block, flow_run.id or "", consent) as resources:
        wait = block.settings.wait_for_writer_seconds
        with resources.writing(block.alias, f"a rollback ({flow_run.name})", wait):
            still_saved(resources.pipeline)
            collection, before = to_go_back_to(resources, to, force)
            check_source(resources, collection)
            warm(resources.store, collection, resources.settings)
            swap(resources, collection)
            swapped = time.monotonic() - started
    rename_run(f"roll back to {collection}")
    logger.info("'%s' points at %s after %.1f s; now syncing the changes it missed", block.alias, collection, swapped)
    try:
        report = sync(pipeline, **asdict(consent))
    except FingerprintError as error:
        if not force:
            raise
        get_run_logger().warning("%s was not synced, except for deletions: %s", collection, error)
        report = SyncReport(collection)
    return Swap(
        collection,
        before,
        "live",
        True,
        report.chunks_embedded,
        report.chunks_reused,
        (),
        round(time.monotonic() - started, 3),
        flow_run.id or "",
    )
