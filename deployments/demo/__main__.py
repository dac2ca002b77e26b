"""The demo: index the project's own documentation and answer two questions from it.

python -m deployments.demo        what `make demo` runs after installing
"""

from __future__ import annotations

import json

from deployments import environment
from deployments.cli import output
from deployments.cli.ask import ask
from deployments.cli.main import main_with, sync, up
from deployments.cli.remote import running_service
from deployments.cli.session import open_session
from deployments.demo import samples

QUESTIONS = (
    "What happens to a file that cannot be parsed?",
    "How does a rename avoid embedding again?",
)


def run() -> None:
    """Start the stack, upload the sample corpus, sync it, ask the two questions."""
    output.say("Lockstep demo 1/4: starting the local stack")
    up()
    env = environment.load()
    output.say("Lockstep demo 2/4: uploading the sample corpus")
    upload(env)
    output.say("Lockstep demo 3/4: bringing the index in step with the bucket")
    sync()
    output.say("Lockstep demo 4/4: asking")
    for question in QUESTIONS:
        output.out.print(f"\n[bold]{question}[/]")
        ask(question)
    here = open_session(env).here
    output.out.print("\nEvery run is recorded.")
    output.ui_link(here.prefect_open_url)
    if service := running_service(env):
        output.write(f"Ask in the browser: {service.url}/\n")
        output.write(f"Ask from a shell:   {curl(service.url, QUESTIONS[1])}\n")
    output.out.print("Ask more with `.venv/bin/lockstep ask '…'`; stop everything with `.venv/bin/lockstep down`.")


def curl(url: str, question: str) -> str:
    """Return a shell command that asks the service."""
    body = json.dumps({"question": question})
    return f"curl -s {url}/ask -H 'content-type: application/json' -d '{body}'"


def upload(env: environment.Environment) -> None:
    """Build the sample corpus and upload the new and changed files to the bucket."""
    from deployments.register import describe

    here = open_session(env).here
    folder = env.home / "samples"
    samples.build(samples.DOCS, folder)
    source = describe(env, here).source
    uploaded, unchanged = samples.upload(source.get_client(), here.bucket, here.prefix, folder)
    output.say(f"{uploaded} files uploaded, {unchanged} were there already")


if __name__ == "__main__":
    main_with(run)
