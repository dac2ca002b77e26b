"""Drop old generations that are no longer kept for a rollback."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.prefect_runs import rename_run
from tasks.generations.retention import collect
from tasks.ledger.lease import next_of
from tasks.pipelines import load_pipeline
from tasks.resources import connect


@flow(name="collect-garbage", flow_run_name="collect garbage of {pipeline}")
def collect_garbage(pipeline: str = "docs") -> list[str]:
    """Drop the generations that are neither live, nor newer, nor kept for a rollback. Return their names."""
    logger = get_run_logger()
    block = load_pipeline(pipeline)
    with connect(block, flow_run.id or "") as resources:
        wait = block.settings.wait_for_writer_seconds
        described = f"a collection of garbage ({flow_run.name})"
        with (
            resources.writing(next_of(block.alias), described, wait),  # never during a rebuild
            resources.writing(block.alias, described, wait),
        ):
            dropped: list[str] = collect(resources, block.alias)
    rename_run(f"collect garbage of {block.alias}: {', '.join(dropped) or 'none'}")
    logger.info("dropped %s", ", ".join(dropped) or "nothing")
    return dropped
