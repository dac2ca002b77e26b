"""The command that measures retrieval on golden questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from deployments.cli.options import Json, Mode, PipelineName, Verbose
from tasks.errors import MisuseError

if TYPE_CHECKING:
    from blocks.settings import SearchMode

Against = Annotated[
    str, typer.Option("--against", help="Compare with a generation's number, or with dense, hybrid or lexical.")
]
MODES = ("dense", "hybrid", "lexical")


def evaluate(  # noqa: PLR0917 - they are the options of a command
    golden: Annotated[
        str,
        typer.Option(
            "--golden",
            help='A file, or s3://bucket/key, with one {"question", "relevant": [keys], "answer"?} per line.',
        ),
    ] = "",
    generation: Annotated[int | None, typer.Option("--generation", help="A number; default: the live one.")] = None,
    mode: Mode = None,
    against: Against = "",
    ignore_missing: Annotated[
        bool,
        typer.Option("--ignore-missing", help="Leave out keys that are not indexed, and questions without others."),
    ] = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure retrieval on golden questions: recall, MRR, nDCG, latency; or compare two sides."""
    if against and against not in MODES and not against.isdecimal():
        raise MisuseError(f"--against {against} is invalid: give a generation's number, or one of {', '.join(MODES)}.")
    from deployments import environment
    from deployments.cli import output, output_evaluation
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.evaluate import evaluate as run

    other_mode = cast("SearchMode", against) if against in MODES else None
    other = int(against) if against.isdecimal() else None
    with output.progress_bar(shown=not as_json and not verbose):
        done = run(session.pipeline, golden, generation, mode, other, other_mode, ignore_missing)
    output.as_json(output_evaluation.evaluated_json(done)) if as_json else output_evaluation.evaluated_report(done)
