"""The commands for the automations of a pipeline in Prefect."""

from __future__ import annotations

import typer

from deployments.cli.options import Json, PipelineName

automations = typer.Typer(
    help="Register or list what Prefect does by itself: end dead runs, notify a person.", no_args_is_help=True
)


@automations.command("apply")
def apply(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """Register the automations with Prefect, as `up` does. Automations that a person has edited stay as they are."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_prefect, prefect_answers

    session = open_prefect(environment.load(), pipeline)
    with prefect_answers(session.here.prefect_api_url):
        from deployments.automations import ensure_automations
        from tasks.pipelines import load_pipeline

        load_pipeline(session.pipeline)  # a misspelt name raises
        rows = ensure_automations(session.env, session.pipeline, output.say)
    if as_json:
        output.as_json({"automations": [row.as_json() for row in rows]})


@automations.command("list")
def list_(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the automations: whether they are there, as Lockstep defines them or edited by a person, and enabled."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_prefect, prefect_answers

    session = open_prefect(environment.load(), pipeline)
    with prefect_answers(session.here.prefect_api_url):
        from prefect.client.orchestration import get_client

        from deployments.automations import compare, notification_block, silence_seconds

        with get_client(sync_client=True) as client:
            block = notification_block(client, session.env.notify_block)
            rows = [row.as_json() for row in compare(client, session.pipeline, block, silence_seconds())]
    output.as_json({"automations": rows}) if as_json else output.automations_table(rows)
