"""The command that measures retrieval on golden questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from deployments.cli.options import Json, Mode, PipelineName, Verbose
from tasks.errors import MisuseError

if TYPE_CHECKING:
    from blocks.settings import SearchMode

Against = Annotated[
    str, typer.Option("--against", help="What to compare with: a generation's number, or dense, hybrid or lexical.")
]
MODES = ("dense", "hybrid", "lexical")


def evaluate(  # noqa: PLR0917 - they are the options of a command
    golden: Annotated[
        str,
        typer.Option(
            "--golden",
            help='A file, or s3://bucket/key, with one {"question", "relevant": [keys], "answer"?} a line.',
        ),
    ] = "",
    generation: Annotated[int | None, typer.Option("--generation", help="Its number; default: the live one.")] = None,
    mode: Mode = None,
    against: Against = "",
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Leave out questions that name keys which are not indexed.")
    ] = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure retrieval on golden questions: recall, MRR, nDCG, latency; or compare two sides."""
    if against and against not in MODES and not against.isdecimal():
        raise MisuseError(f"--against {against} is invalid: give a generation's number, or one of {', '.join(MODES)}.")
    from deployments import environment
    from deployments.cli import output_evaluation as show_quality
    from deployments.cli.output import as_json as print_json
    from deployments.cli.output import progress_bar
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.evaluate import evaluate as run

    other_mode = cast("SearchMode", against) if against in MODES else None
    other = int(against) if against.isdecimal() else None
    with progress_bar(shown=not as_json and not verbose):
        done = run(session.pipeline, golden, generation, mode, other, other_mode, ignore_missing)
    print_json(show_quality.evaluated_json(done)) if as_json else show_quality.evaluated_report(done)
