"""The commands that build generations, swap them, list them and drop them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from deployments.options import Json, PipelineName, Verbose


def rebuild(  # noqa: PLR0913, PLR0917 - they are the options of a command
    chunk_tokens: Annotated[int | None, typer.Option("--chunk-tokens", help="Most tokens of one chunk.")] = None,
    embed_model: Annotated[str | None, typer.Option("--embed-model", help="A model's name, or its folder.")] = None,
    index_type: Annotated[str | None, typer.Option("--index-type", help="HNSW, IVF_FLAT, …")] = None,
    index_params: Annotated[
        str | None, typer.Option("--index-params", help='Build parameters of the index as JSON, {"M": 32}.')
    ] = None,
    search_params: Annotated[
        str | None, typer.Option("--search-params", help='Search parameters of the index as JSON, {"ef": 128}.')
    ] = None,
    promote: Annotated[
        Literal["auto", "manual"], typer.Option("--promote", help="When it is ready: promote it, or leave it.")
    ] = "auto",
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Build the next generation beside the live one; what is not given stays as the pipeline has it."""
    from deployments import environment, show
    from deployments.session import open_session

    given = {
        "chunk_tokens": chunk_tokens,
        "index_type": index_type,
        "index_params": index_params,
        "search_params": search_params,
    }
    session = open_session(environment.load(), pipeline, verbose)
    from deployments.register import changed_settings
    from flows.rebuild import rebuild as run
    from tasks.pipelines import load_pipeline

    settings = changed_settings(load_pipeline(session.pipeline).settings, given)
    with show.progress_bar(shown=not as_json and not verbose):
        done = run(session.pipeline, settings, embed_model, promote)
    show.as_json(show.rebuild_json(done)) if as_json else show.swap_report(done)


def promote(
    generation: Annotated[int | None, typer.Argument(help="Its number; default: the newest that is ready.")] = None,
    force: Annotated[str, typer.Option("--force", help="Promote it though a gate fails, for this reason.")] = "",
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Let queries come to a generation that is ready, if it passes the gates."""
    from deployments import environment, show
    from deployments.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.promote import promote as run

    done = run(session.pipeline, generation, force)
    show.as_json(show.swap_json(done)) if as_json else show.swap_report(done)


def rollback(
    to: Annotated[int | None, typer.Option("--to", help="The generation's number; default: the one before.")] = None,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Go back to an earlier generation, and sync what it missed."""
    from deployments import environment, show
    from deployments.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.rollback import rollback as run

    done = run(session.pipeline, to)
    show.as_json(show.swap_json(done)) if as_json else show.swap_report(done)


def generations(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the generations: which is live, how they differ, what they hold."""
    from deployments import environment, show
    from deployments.session import open_session

    session = open_session(environment.load(), pipeline)
    from tasks.overview import overview

    rows = overview(session.pipeline)
    show.as_json({"generations": rows}) if as_json else show.generations_table(rows)


def collect_garbage(pipeline: PipelineName = None, as_json: Json = False, verbose: Verbose = False) -> None:
    """Drop the generations that nobody needs for the way back."""
    from deployments import environment, show
    from deployments.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.collect_garbage import collect_garbage as run

    dropped = run(session.pipeline)
    show.as_json({"dropped": dropped}) if as_json else show.say(f"dropped {', '.join(dropped) or 'nothing'}")
