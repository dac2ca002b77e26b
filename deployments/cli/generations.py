"""The commands that build, promote, roll back, list and drop generations."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from deployments.cli.options import AcceptSource, AllowDeletions, Json, PipelineName, Verbose
from tasks.errors import MisuseError


def rebuild(  # noqa: PLR0913, PLR0917 - they are the options of a command
    chunk_tokens: Annotated[int | None, typer.Option("--chunk-tokens", help="Maximum tokens of a chunk.")] = None,
    embed_model: Annotated[str | None, typer.Option("--embed-model", help="A model's name, or its folder.")] = None,
    index_type: Annotated[str | None, typer.Option("--index-type", help="HNSW, IVF_FLAT, …")] = None,
    index_params: Annotated[
        str | None, typer.Option("--index-params", help='Build parameters of the index as JSON, {"M": 32}.')
    ] = None,
    search_params: Annotated[
        str | None, typer.Option("--search-params", help='Search parameters of the index as JSON, {"ef": 128}.')
    ] = None,
    promote: Annotated[
        Literal["auto", "approve", "manual"],
        typer.Option("--promote", help="When it is ready: promote it, wait for an approval in the UI, or leave it."),
    ] = "auto",
    allow_deletions: AllowDeletions = False,
    accept_source: AcceptSource = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Build the next generation beside the live one. Other settings stay as in the pipeline."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    given = {
        "chunk_tokens": chunk_tokens,
        "index_type": index_type,
        "index_params": index_params,
        "search_params": search_params,
    }
    session = open_session(environment.load(), pipeline, verbose, saves=True, accept_source=accept_source)
    from deployments.deploy import put_back_unless_taken
    from deployments.register import changed_settings
    from flows.rebuild import rebuild as run
    from tasks.pipelines import load_pipeline

    if promote == "approve":
        output.say(f"when it is ready, approve or reject it in the Prefect UI: {session.here.prefect_ui_url}")
    putting_back = put_back_unless_taken(session.env, session.before, output.say)
    with putting_back, output.progress_bar(shown=not as_json and not verbose):
        settings = changed_settings(load_pipeline(session.pipeline).settings, given)
        done = run(session.pipeline, settings, embed_model, promote, allow_deletions, accept_source)
    output.as_json(output.rebuild_json(done)) if as_json else output.swap_report(done)


def promote(  # noqa: PLR0913, PLR0917 - they are the options of a command
    generation: Annotated[int | None, typer.Argument(help="A number; default: the newest that is ready.")] = None,
    force: Annotated[str, typer.Option("--force", help="Promote it although a gate fails; give the reason.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Wait for an approval in the Prefect UI.")] = False,
    canary: Annotated[
        str, typer.Option("--canary", help="Shares of the questions to send to it first, in percent: 10,50,100.")
    ] = "",
    hold: Annotated[str, typer.Option("--hold", help="How long to hold each share: 90s, 15m, 2h.")] = "15m",
    allow_deletions: AllowDeletions = False,
    accept_source: AcceptSource = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Send all questions to a ready generation, if it passes the gates."""
    steps, hold_seconds = shares(canary), seconds(hold)
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.promote import promote as run

    if approve:
        output.say(f"when it is ready, approve or reject it in the Prefect UI: {session.here.prefect_ui_url}")
    done = run(
        session.pipeline,
        generation,
        force,
        None,
        approve,
        steps,
        hold_seconds,
        who(),
        allow_deletions=allow_deletions,
        accept_source=accept_source,
    )
    output.as_json(output.swap_json(done)) if as_json else output.swap_report(done)


def shares(given: str) -> list[int]:
    """Return the percentages of '10,50,100'. Raises ``MisuseError`` for anything else."""
    try:
        return [int(one.strip().removesuffix("%")) for one in given.split(",")] if given else []
    except ValueError as error:
        raise MisuseError(f"--canary {given} is invalid: it needs rising percentages such as 10,50,100.") from error


def seconds(given: str) -> float:
    """Return the seconds of '90s', '15m' or '2h'. Raises ``MisuseError`` for anything else."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = given[:-1], given[-1:]
    try:
        found = float(number) * units[unit]
    except (KeyError, ValueError) as error:
        raise MisuseError(f"--hold {given} is invalid: it needs a time such as 90s, 15m or 2h.") from error
    if not 0 <= found < 30 * 86400:
        raise MisuseError(f"--hold {given} is invalid: use a time from 0s to 30 days.")
    return found


def who() -> str:
    """Return the user of this command, as user@host."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def rollback(
    to: Annotated[int | None, typer.Option("--to", help="A number; default: the generation live before.")] = None,
    allow_deletions: AllowDeletions = False,
    accept_source: AcceptSource = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Allow a generation of another version of Lockstep; syncs can only delete from it."
        ),
    ] = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Roll back to an earlier generation, and sync the changes it missed."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.rollback import rollback as run

    done = run(session.pipeline, to, allow_deletions, accept_source, force)
    output.as_json(output.swap_json(done)) if as_json else output.swap_report(done)


def generations(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the generations: their state, their contents, and how they differ."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline)
    from tasks.generations.overview import overview

    rows = overview(session.pipeline)
    output.as_json({"generations": rows}) if as_json else output.generations_table(rows)


def collect_garbage(pipeline: PipelineName = None, as_json: Json = False, verbose: Verbose = False) -> None:
    """Drop the generations that are no longer needed for a rollback."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.collect_garbage import collect_garbage as run

    dropped = run(session.pipeline)
    output.as_json({"dropped": dropped}) if as_json else output.say(f"dropped {', '.join(dropped) or 'nothing'}")
