"""Measure a generation with golden questions, or compare two generations or two search modes.

golden questions ──look keys up──▶ ask one ──▶ ask the other ──▶ measures, differences with intervals ──▶ report
"""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from blocks.settings import SearchMode
from flows.prefect_runs import rename_run
from tasks.errors import MisuseError
from tasks.evaluation.compare import Difference, differences
from tasks.evaluation.evaluate import Evaluation, as_rows, known
from tasks.evaluation.evaluate import evaluate as ask_all
from tasks.evaluation.golden import read_golden
from tasks.evaluation.report import evaluation_markdown
from tasks.generations.claims import check_asked, source_kept
from tasks.generations.swap import numbered
from tasks.ledger.generations import recorded_source
from tasks.pipelines import load_pipeline
from tasks.resources import Resources, connect
from tasks.text.markdown import inline


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation, with its baseline and the differences if there is one.

    ``left_out`` counts the questions whose objects are not indexed.
    """

    evaluation: Evaluation
    baseline: Evaluation | None
    differences: dict[str, Difference]
    left_out: int
    flow_run_id: str


@flow(name="evaluate", flow_run_name="evaluate {pipeline}")
def evaluate(
    pipeline: str = "docs",
    golden: str = "",
    generation: int | None = None,
    mode: SearchMode | None = None,
    against_generation: int | None = None,
    against_mode: SearchMode | None = None,
    ignore_missing: bool = False,
) -> Evaluated:
    """Search a generation for the golden questions (a file, or s3://bucket/key), and a second generation or mode.

    The defaults are the live generation, the pipeline's mode and the pipeline's golden questions. Raises
    ``MisuseError`` for malformed questions, for keys that are not indexed, and for a mode that the server does not
    support. Raises ``SourceError`` for a generation that another ledger keeps.
    """
    block = load_pipeline(pipeline)
    where = golden or block.settings.golden
    if not where:
        raise MisuseError("no golden questions are set. Name a file or s3://bucket/key with --golden.")
    given = read_golden(where, block.source)
    with connect(block, flow_run.id or "") as resources:
        collection = named(resources, generation)
        other = named(resources, against_generation) if against_generation else collection
        questions = given
        for one in {collection, other}:
            check_asked(block, one, source_kept(resources.store, one), {one: recorded_source(resources.ledger, one)})
            questions = known(resources, one, questions, where, ignore_missing)
        compared = other != collection or against_mode is not None
        resources.progress.planned(len(questions) * (2 if compared else 1))
        evaluation = ask_all(resources, collection, mode, questions)
        baseline = ask_all(resources, other, against_mode or mode, questions) if compared else None
    compared_with = f" against {baseline.label}" if baseline else ""
    rename_run(f"evaluate {evaluation.label}: {len(evaluation.outcomes)} questions{compared_with}")
    found = differences(evaluation, baseline) if baseline else {}
    create_markdown_artifact(
        evaluation_markdown(evaluation, baseline, found, where),
        key=f"evaluate-{pipeline}",
        description=f"Golden questions: results of {inline(evaluation.label)}",
    )
    create_table_artifact(
        as_rows(evaluation),
        key=f"evaluate-{pipeline}-questions",
        description=f"Each question: {inline(evaluation.label)}",
    )
    return Evaluated(evaluation, baseline, found, len(given) - len(questions), flow_run.id or "")


def named(resources: Resources, number: int | None) -> str:
    """Return the collection of a generation number, or the live one. Raises ``MisuseError`` if it does not exist."""
    return numbered(resources, number).collection if number else resources.store.resolve()
