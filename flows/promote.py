"""Let queries come to a generation that is ready, if it passes the gates.

    newest ready ──sync──▶ index, load, measure ──▶ gates ──all passed──▶ alias ──▶ pipeline ──▶ ledger ──▶ sync
                                                      └─ one failed ────▶ nothing is changed; the report says which

The alias is the truth: whatever dies after it was moved is finished by the next sync.
"""

from __future__ import annotations

import time

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.settings import Settings
from flows.run_names import rename_run
from flows.sync import sync
from tasks.errors import GateError
from tasks.gates import GateReport, gates
from tasks.lease import next_of, writing
from tasks.models import Swap
from tasks.pipelines import load_pipeline
from tasks.report import gates_markdown
from tasks.swap import swap, to_promote
from tasks.tools import connect


@flow(name="promote", flow_run_name="promote {pipeline}")
def promote(
    pipeline: str = "docs", generation: int | None = None, force: str = "", settings: Settings | None = None
) -> Swap:
    """Point the pipeline's alias at a generation: the newest that is ready, or that number.

    ``settings`` replaces the pipeline's own: the bounds of the gates, and the search parameters from now on. Raises
    ``GateError`` when it does not pass a gate; ``force``, the reason why it should be promoted all the same, is
    recorded in the report. Raises ``MisuseError`` when nothing is ready.
    """
    started, say = time.monotonic(), get_run_logger().info
    block = load_pipeline(pipeline)
    with connect(block, flow_run.id or "") as tools:
        wait, described = block.settings.wait_for_writer_seconds, f"a promotion ({flow_run.name})"
        with writing(tools.ledger, next_of(block.alias), described, 0, say):
            chosen, live = to_promote(tools, generation)
            sync(pipeline, settings, into=chosen.collection)  # it may have been ready for days
            tools.work_with(settings or block.settings)
            tools.follow(chosen.ingredients)
            report = gates(tools, chosen.collection, live, say)
            show(pipeline, report, force)
            if report.failed and not force:
                raise GateError(
                    f"{chosen.collection} was not promoted: {report}. {live or 'Nothing'} stays live. "
                    "The report is in the Prefect UI; --force WHY promotes it all the same.",
                    report,
                )
            # Only now: a sync of the live generation may start while this one is measured.
            with writing(tools.ledger, block.alias, described, wait, say):
                swap(tools, chosen.collection)
    rename_run(f"promote {chosen.collection}")
    say("'%s' points at %s now, before at %s", block.alias, chosen.collection, live)
    sync(pipeline)  # what changed while it was measured
    rows = tuple(gate.as_row() for gate in report.gates)
    seconds = round(time.monotonic() - started, 3)
    return Swap(chosen.collection, live, "live", True, gates=rows, seconds=seconds, flow_run_id=flow_run.id or "")


def show(pipeline: str, report: GateReport, force: str) -> None:
    """Leave the report as an artifact."""
    create_markdown_artifact(
        gates_markdown(report, force), key=f"promote-{pipeline}", description=f"May {report.collection} be promoted?"
    )
