"""The command that watches the bucket."""

from __future__ import annotations

from deployments.cli.options import PipelineName


def watch(pipeline: PipelineName = None) -> None:
    """Sync what changes in the bucket within seconds, until stopped; `lockstep up` does the same in the background."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import enter
    from deployments.local import stack

    env = environment.load()
    here = stack.endpoints(env)
    enter(env)
    name = pipeline or here.pipeline
    output.say(f"watcher: watching the bucket of '{name}' (stop it with Ctrl-C)")
    from deployments.watch.run import log_to_stderr
    from deployments.watch.run import watch as run

    log_to_stderr()
    run(env, name)
