"""Build the next generation beside the live one, and promote it if it passes the gates.

    next generation ──sync──▶ sync ──nothing differs──▶ ready ──▶ promote

The live generation is synced and answers meanwhile. If a rebuild dies, the next one with the same settings
continues it.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Literal

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from blocks.pipeline import Pipeline
from blocks.settings import Settings
from flows.prefect_runs import rename_run
from flows.promote import promote as promote_it
from flows.sync import sync
from tasks.evaluation.golden import read_golden
from tasks.generations.opening import next_generation
from tasks.ledger.generations import add_cost, mark_ready
from tasks.ledger.lease import next_of
from tasks.models import Swap
from tasks.pipelines import check_prefix, load_pipeline
from tasks.resources import Consent, Resources, connect

ROUNDS = 10


@flow(name="rebuild", flow_run_name="rebuild {pipeline}")
def rebuild(
    pipeline: str = "docs",
    settings: Settings | None = None,
    embed_model: str | None = None,
    promote: Literal["auto", "approve", "manual"] = "auto",
    allow_deletions: bool = False,
    accept_source: bool = False,
) -> Swap:
    """Build a generation with other settings or another model, by default the pipeline's own, and promote it.

    Texts whose vectors the live generation has are not embedded again. With ``promote`` 'manual' the generation is
    left ready. With 'approve' it waits for an approval in the Prefect UI. ``allow_deletions`` and ``accept_source``
    are those of a sync. Raises ``MisuseError`` for an index that the server does not support, ``TransientError`` while
    another rebuild runs, and ``GateError`` when a gate fails.
    """
    started, logger = time.monotonic(), get_run_logger()
    block = changed(load_pipeline(pipeline), settings, embed_model)
    check_prefix(block.settings.tenants, block.source.prefix)
    if promote != "manual" and block.settings.golden:
        read_golden(block.settings.golden, block.source)  # report a malformed line now, not after hours of embedding
    with connect(block, flow_run.id or "", Consent(allow_deletions, accept_source)) as resources:
        live = resources.store.live()
        with resources.writing(next_of(block.alias), f"a rebuild ({flow_run.name})", 0):
            collection = next_generation(resources, block.alias)
            rename_run(f"rebuild {collection}")
            embedded, reused = fill(resources, pipeline, settings, collection)
            mark_ready(resources.ledger, collection)
            logger.info("%s is ready: %s chunks embedded, %s reused", collection, f"{embedded:,}", f"{reused:,}")
    done = None
    if promote != "manual":
        done = promote_it(
            pipeline,
            number_of(collection),
            settings=settings,
            approve=promote == "approve",
            wait_seconds=block.settings.wait_for_writer_seconds,  # a garbage collection may hold the lease meanwhile
            allow_deletions=allow_deletions,
            accept_source=accept_source,
        )
    return Swap(
        collection,
        live,
        "live" if done else "ready",
        bool(done),
        embedded,
        reused,
        done.gates if done else (),
        round(time.monotonic() - started, 3),
        flow_run.id or "",
    )


def number_of(collection: str) -> int:
    """Return the number in a generation's name."""
    return int(collection.rsplit("_g", 1)[1])


def changed(block: Pipeline, settings: Settings | None, embed_model: str | None) -> Pipeline:
    """Return the pipeline with the given settings and embedding model."""
    update: dict[str, object] = {"settings": settings or block.settings}
    if embed_model:
        update["embedder"] = block.embedder.model_copy(update={"model_name": embed_model, "revision": None})
    return block.model_copy(update=update)


def fill(resources: Resources, pipeline: str, settings: Settings | None, collection: str) -> tuple[int, int]:
    """Sync a generation until nothing differs. Return the number of embedded chunks and of reused ones.

    Stops after ten syncs, in case the bucket changes all the time. A promotion syncs again.
    """
    embedded = reused = 0
    for _ in range(ROUNDS):
        report = sync(pipeline, settings, collection, **asdict(resources.consent))
        embedded += report.chunks_embedded
        reused += report.chunks_reused
        add_cost(resources.ledger, collection, report.chunks_embedded, report.chunks_reused, report.seconds)
        if not (report.new or report.changed or report.deleted or report.moved_on):
            break
    return embedded, reused
