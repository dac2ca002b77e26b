"""Move the alias to a ready generation, if it passes the gates.

    newest ready ──sync──▶ index, load, measure ──▶ gates ──all passed──▶ approval? ──▶ canary? ──▶ alias ──▶ sync
                                                      └─ one failed ────▶ nothing is changed; the report says which

The alias decides. If a promotion dies after moving it, the next sync finishes the rest. If it dies during a canary,
the canary keeps answering its share, and the next promotion continues it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.settings import Settings
from flows.approval import ask_for_approval
from flows.canary import canary as hold_canary
from flows.canary import planned
from flows.prefect_runs import rename_run
from flows.sync import sync
from tasks.errors import ChangedError, GateError, MisuseError, RejectedError
from tasks.evaluation.gates import GateReport, gates
from tasks.evaluation.golden import read_golden
from tasks.evaluation.report import promotion_markdown
from tasks.evaluation.warmup import warm
from tasks.generations.opening import work_as_built
from tasks.generations.overview import side_by_side
from tasks.generations.swap import swap, to_promote
from tasks.ledger.canary import Canary, canary_of, end_canary
from tasks.ledger.generations import Generation, record_force, record_search_params
from tasks.ledger.lease import next_of
from tasks.models import Swap
from tasks.pipelines import load_pipeline, still_saved
from tasks.resources import Consent, Resources, connect
from tasks.retries import patiently


@flow(name="promote", flow_run_name="promote {pipeline}")
def promote(  # noqa: PLR0913, PLR0917 - they are what the run page shows that it was asked
    pipeline: str = "docs",
    generation: int | None = None,
    force: str = "",
    settings: Settings | None = None,
    approve: bool = False,
    canary: list[int] | None = None,
    hold_seconds: float = 900.0,
    by: str = "",
    wait_seconds: float = 0.0,
    allow_deletions: bool = False,
    accept_source: bool = False,
) -> Swap:
    """Point the pipeline's alias at a generation: the newest ready one, or a given number.

    ``settings`` replaces the pipeline's own: the bounds of the gates, and the search parameters from now on. With
    ``approve`` the run pauses until somebody approves in the Prefect UI. ``canary`` lists the shares of the questions,
    in percent, that go to the generation first, each for ``hold_seconds``. ``force`` is the reason for a promotion in
    spite of failed gates, and is recorded with the person ``by``. ``wait_seconds`` is how long to wait for another run
    that builds, measures or drops generations. ``allow_deletions`` and ``accept_source`` are those of a sync.
    ``allow_deletions`` also accepts a generation with fewer objects.

    Raises ``GateError`` when a gate or the canary fails, ``RejectedError`` without an approval, and ``MisuseError``
    when no generation is ready.
    """
    started, logger = time.monotonic(), get_run_logger()
    block = load_pipeline(pipeline)
    consent = Consent(allow_deletions, accept_source)
    with connect(block, flow_run.id or "", consent) as resources:
        wait, described = block.settings.wait_for_writer_seconds, f"a promotion ({flow_run.name})"
        with (
            resources.writing(next_of(block.alias), described, wait_seconds) as still_mine,
            ExitStack() as if_not,
        ):
            chosen, live = to_promote(resources, generation)
            if_not.push(partial(take_back, resources, chosen.collection))
            step_by_step = planned(resources, chosen.collection, live, canary or [], hold_seconds)
            if canary and not live:
                raise MisuseError("a canary needs a live generation beside it: there is none yet.")
            work_as(resources, chosen, settings)
            questions = read_golden(resources.settings.golden, block.source) if resources.settings.golden else []
            sync(pipeline, settings, chosen.collection, **asdict(consent))  # the generation may be days behind
            report = gates(resources, chosen.collection, live, questions)
            shown = show(pipeline, resources, report, force, by)
            refuse(report, force)
            if approve:
                comment = ask_for_approval(chosen.collection, shown, resources.settings.approval_hours)
                logger.info("%s was approved: %s", chosen.collection, comment or "no comment")
            if approve or step_by_step:
                sync(pipeline, settings, chosen.collection, **asdict(consent))  # a person may have taken a day
            if step_by_step:
                hold_canary(resources, step_by_step)  # from here on each sync of the live generation keeps it in step
            warm(resources.store, chosen.collection, resources.settings)
            # Take this lease last, so that syncs of the live generation can run during the measurement.
            with resources.writing(block.alias, described, wait):
                patiently(still_mine)()
                still_saved(resources.pipeline)  # a person may have taken a day
                still_beside(resources, chosen.collection, live, step_by_step)
                record_force(resources.ledger, chosen.collection, forced(report, force, by))
                record_search_params(resources.ledger, chosen.collection, resources.settings.search_params)
                swap(resources, chosen.collection)
    rename_run(f"promote {chosen.collection}")
    logger.info("'%s' now points at %s, before at %s", block.alias, chosen.collection, live)
    sync(pipeline, **asdict(consent))  # catch up with changes since the measurement
    rows = tuple(gate.as_row() for gate in report.gates)
    seconds = round(time.monotonic() - started, 3)
    return Swap(chosen.collection, live, "live", True, gates=rows, seconds=seconds, flow_run_id=flow_run.id or "")


def refuse(report: GateReport, force: str) -> None:
    """Raise ``GateError`` when a gate failed, unless ``force`` gives a reason."""
    if report.failed and not force:
        raise GateError(
            f"{report.collection} was not promoted: {report}. {report.live or 'Nothing'} stays live. "
            "The report is in the Prefect UI. To promote it anyway, use --force WHY.",
            report,
        )


def forced(report: GateReport, force: str, by: str) -> dict[str, str] | None:
    """Return the person and the reason of a forced promotion; None if no gate failed."""
    return {"who": by or "somebody", "why": force} if report.failed else None


def take_back(resources: Resources, collection: str, kind: type[BaseException] | None, *_: object) -> None:
    """End this generation's canary when its promotion was refused, so that the live generation answers everything."""
    if kind and issubclass(kind, (GateError, RejectedError, MisuseError, ChangedError)):
        under_way = patiently(canary_of)(resources.ledger, resources.store.alias)
        if under_way and under_way.collection == collection:
            end_canary(resources.ledger, resources.store.alias)


def still_beside(resources: Resources, collection: str, live: str | None, canary: Canary | None) -> None:
    """Raise ``RejectedError`` if the live generation changed since the measurement, or the canary was ended."""
    now_live = patiently(resources.store.live)()
    if now_live != live:
        raise RejectedError(
            f"{collection} was not promoted: it was compared with {live}, but {now_live} is live now. Promote again."
        )
    under_way = patiently(canary_of)(resources.ledger, resources.store.alias)
    if canary and (under_way is None or under_way.collection != collection):
        raise RejectedError(
            f"{collection} was not promoted: somebody ended its canary. Run `lockstep promote` to try again."
        )


def work_as(resources: Resources, chosen: Generation, settings: Settings | None) -> None:
    """Use the settings that the generation was built with, and the search parameters of ``settings`` or its own."""
    if settings:
        resources.work_with(settings)
    work_as_built(resources, chosen.ingredients, settings.search_params if settings else chosen.search_params)


def show(pipeline: str, resources: Resources, report: GateReport, force: str, by: str) -> str:
    """Save the report as an artifact and return it."""
    shown = promotion_markdown(report, side_by_side(resources.store, resources.ledger), force, by)
    create_markdown_artifact(shown, key=f"promote-{pipeline}", description=f"Gates of {report.collection}")
    return shown
