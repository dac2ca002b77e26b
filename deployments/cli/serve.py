"""The command that serves questions over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.options import PipelineName


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8080,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name under which others call it; repeat it.")
    ] = None,
    pipeline: PipelineName = None,
) -> None:
    """Answer questions over HTTP until stopped; `lockstep up` does the same in the background."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import enter
    from deployments.local import stack

    env = environment.load()
    here = stack.endpoints(env)
    enter(env)
    output.say(f"service: listening on http://{host}:{port} (stop it with Ctrl-C)")
    from deployments.server.run import serve as run

    run(env, pipeline or here.pipeline, host, port, frozenset(allow_host or ()))
