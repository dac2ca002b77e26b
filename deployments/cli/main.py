"""The `lockstep` command.

    lockstep up | down | status       the local stack: start, stop, inspect the parts that are not configured
    lockstep automations apply | list  what Prefect does by itself: end dead runs, notify a person
    lockstep env                      its addresses and secrets, for a shell
    lockstep sync                     bring the index in step with the bucket
    lockstep search Q | ask Q         find chunks | get a cited answer
    lockstep serve                    answer questions over HTTP (`up` starts it in the background)
    lockstep watch                    sync within seconds what changes (`up` starts it in the background)
    lockstep mcp                      the same for desktop assistants, over stdin and stdout
    lockstep keys create | list | revoke   who may ask the service
    lockstep questions                what the service was asked, and how it was answered
    lockstep audit [--repair]         check that the index equals the bucket
    lockstep quarantine list | retry  objects that cannot be indexed
    lockstep rebuild                  build the next generation beside the live one, and promote it
    lockstep promote | rollback       go to the next generation | back to the one before
    lockstep generations              list the generations and how they differ
    lockstep evaluate --golden F      measure retrieval on golden questions
    lockstep collect-garbage          drop generations that are no longer needed

Exit codes: 0 done, 1 failed, 2 misuse. Results go to stdout, with --json as JSON; messages go to stderr.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.ask import ask
from deployments.cli.automations import automations
from deployments.cli.evaluate import evaluate
from deployments.cli.generations import collect_garbage, generations, promote, rebuild, rollback
from deployments.cli.keys import keys
from deployments.cli.mcp import mcp
from deployments.cli.options import (
    AcceptSource,
    AllowDeletions,
    Filter,
    Json,
    Mode,
    PipelineName,
    Tenant,
    TopK,
    Verbose,
    scope_of,
)
from deployments.cli.questions import questions
from deployments.cli.serve import serve
from deployments.cli.watch import watch
from deployments.server.shapes import hit_of, hits_json
from tasks.errors import InconsistentError, LockstepError, MisuseError, PartError
from tasks.sanitize import hidden, visible

if TYPE_CHECKING:
    from tasks.retrieval.scope import Scope

app = typer.Typer(
    name="lockstep",
    help="Keep a Milvus index in step with a bucket, and answer questions from it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def up(as_json: Json = False) -> None:
    """Start the parts that you have not configured, register blocks and automations, deploy the flows.

    Exits with 1 when a part does not answer, or when no sync is planned.
    """
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import enter, prefect_answers
    from deployments.local import stack

    env = environment.load()
    started = stack.up(env, output.say)
    enter(env)
    with prefect_answers(started.endpoints.prefect_api_url):
        from deployments.automations import ensure_automations
        from deployments.deploy import ensure_deployed, ensure_registered

        name = ensure_registered(env, started.endpoints)
        ensure_deployed(env, name, output.say)
        ensure_automations(env, name, output.say)
    schedule = stack.schedule(env)
    output.say(f"{schedule.name}: {schedule.detail}")
    parts = (*started.parts, schedule)
    if as_json:
        output.as_json({"parts": [_part(part) for part in parts], "ui": started.endpoints.prefect_ui_url})
    else:
        output.ui_link(started.endpoints.prefect_open_url)
    if missing := [f"{part.name}: {part.detail}" for part in parts if part.state == "down"]:
        raise PartError(f"the local parts are up, but not everything works: {'; '.join(missing)}")


@app.command()
def down() -> None:
    """Stop the processes that `up` started, and no others."""
    from deployments import environment
    from deployments.cli import output
    from deployments.local import stack

    stack.down(environment.load(), output.say)


@app.command()
def status(as_json: Json = False) -> None:
    """Print the state and address of each part, and the canary if there is one. Exits with 1 when a part is down."""
    from deployments import environment
    from deployments.cli import output
    from deployments.endpoints import resolve
    from deployments.local import stack
    from deployments.state import load

    env = environment.load()
    parts, canary = stack.status(env), stack.canary(env)
    if as_json:
        output.as_json({"parts": [_part(part) for part in parts], "canary": canary})
    else:
        output.parts_table(parts)
        output.canary_line(canary)
        if any(part.name == "prefect" and part.state == "up" for part in parts):
            output.ui_link(resolve(env, load(env.home)).prefect_open_url)
    if any(part.state == "down" for part in parts):
        raise typer.Exit(1)


@app.command("env")
def env_command(as_json: Json = False) -> None:
    """Print the addresses and secrets in use as exports for a shell: eval "$(lockstep env)".

    Then `prefect`, `aws` and scripts reach the local stack. Exits with an error when it is not running.
    """
    from deployments import environment
    from deployments.cli import output
    from deployments.exports import exports, lines
    from deployments.local import stack

    env = environment.load()
    found = exports(env, stack.endpoints(env))
    output.as_json(found) if as_json else output.write(lines(found))


def _part(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in ("name", "state", "url", "pid", "detail", "log")} | {
        "log": str(part.log) if part.log else None
    }


@app.command()
def sync(
    allow_deletions: AllowDeletions = False,
    accept_source: AcceptSource = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Bring the index in step with the bucket, once."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose, saves=True, accept_source=accept_source)
    from deployments.deploy import put_back_unless_taken
    from flows.sync import sync as run

    putting_back = put_back_unless_taken(session.env, session.before, output.say)
    with putting_back, output.progress_bar(shown=not as_json and not verbose):
        report = run(session.pipeline, allow_deletions=allow_deletions, accept_source=accept_source)
    output.as_json(output.sync_json(report)) if as_json else output.sync_report(report)


@app.command()
def search(  # noqa: PLR0917 - its options
    question: Annotated[str | None, typer.Argument(help="The question.")] = None,
    queries_file: Annotated[
        Path | None,
        typer.Option("--queries-file", help='Many questions: one JSON {"id", "question"} per line.'),
    ] = None,
    top_k: TopK = None,
    mode: Mode = None,
    only: Filter = "",
    tenant: Tenant = "",
    pipeline: PipelineName = None,
    as_json: Json = False,
) -> None:
    """Print the chunks nearest to a question; records no flow run."""
    if (question is None) == (queries_file is None):
        raise MisuseError("give either a question or --queries-file, exactly one of the two")
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.questions_file import read_questions
    from deployments.cli.remote import SLOW, running_service
    from deployments.endpoints import block_name
    from tasks.retrieval.question import Question, checked
    from tasks.retrieval.scope import Scope

    env = environment.load()
    questions = read_questions(queries_file) if queries_file else [Question("", checked(question or ""))]
    if service := running_service(env):
        named = pipeline or block_name(env.collection_name)
        for asked in questions:
            body = {"question": asked.question, "pipeline": named, "top_k": top_k, "mode": mode}
            told = without_links(service.call("/search", {**body, "filter": only, "tenant": tenant}))
            _show_found(asked.id, told, Scope(only, tenant), as_json, bool(queries_file))
        return
    from deployments.cli.session import open_session

    scope = scope_of(only, tenant)
    session = open_session(env, pipeline)
    from tasks.pipelines import load_pipeline
    from tasks.retrieval.batch_search import search_all

    block = load_pipeline(session.pipeline)
    for found in search_all(block, questions, _settings(block.settings, top_k, mode), scope):
        told = {**hits_json(found.collection, found.hits, found.seconds), "notes": list(found.notes)}
        _show_found(found.id, told, scope, as_json, bool(queries_file))
    output.say(SLOW)


def without_links(told: dict[str, Any]) -> dict[str, Any]:
    """Return what the service found as the command prints it: links to passages are for browsers."""
    hits = [hit_of(hit) for hit in told["hits"]]
    return {**hits_json(told["collection"], hits, told["seconds"]), "notes": told["notes"]}


def _show_found(named: str, told: dict[str, Any], scope: Scope, as_json: bool, many: bool) -> None:
    """Print what one question found, as the service tells it."""
    from deployments.cli import output

    for note in told.pop("notes"):
        output.say(note)
    if as_json or many:
        output.as_json({"id": named, **told} if many else told)
    else:
        output.hits_table(told["collection"], [hit_of(one) for one in told["hits"]], scope)


@app.command()
def audit(
    repair: Annotated[bool, typer.Option("--repair", help="Repair the differences, then audit again.")] = False,
    allow_deletions: AllowDeletions = False,
    accept_source: AcceptSource = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare bucket, ledger and index chunk by chunk. Exits with 1 when they differ."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline, verbose)
    from flows.audit import audit as run

    try:
        found = run(session.pipeline, repair, allow_deletions=allow_deletions, accept_source=accept_source)
    except InconsistentError as error:
        found = error.found
        if as_json:
            output.as_json(output.audit_json(found))
        else:
            output.audit_report(found)
        raise
    output.as_json(output.audit_json(found)) if as_json else output.audit_report(found)


quarantine = typer.Typer(help="List the objects that cannot be indexed, or retry them.", no_args_is_help=False)
app.add_typer(quarantine, name="quarantine")


@quarantine.callback(invoke_without_command=True)
def quarantine_default(context: typer.Context, pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the objects in quarantine (as `quarantine list` does)."""
    if context.invoked_subcommand is None:
        quarantine_list(pipeline, as_json)
    elif pipeline or as_json:
        raise MisuseError(
            f"put the options after the command: lockstep quarantine {context.invoked_subcommand} --json …"
        )


@quarantine.command("list")
def quarantine_list(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the objects in quarantine: key, reason, attempts, since when, and whether an older version answers."""
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline)
    from tasks.indexing.quarantine import contents

    rows = contents(session.pipeline)
    output.as_json({"quarantined": rows}) if as_json else output.quarantine_table(rows)


@quarantine.command("retry")
def quarantine_retry(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys to retry.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry all objects.")] = False,
    pipeline: PipelineName = None,
    as_json: Json = False,
) -> None:
    """Release objects from quarantine. The next sync retries them."""
    if bool(keys) == every:
        raise MisuseError("give either keys or --all, exactly one of the two")
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.session import open_session

    session = open_session(environment.load(), pipeline)
    from tasks.indexing.quarantine import release

    released = release(session.pipeline, keys or None)
    if as_json:
        output.as_json({"retried": released})
    else:
        output.say(f"{len(released)} released from quarantine. The next sync retries them; `lockstep sync` does it now")


app.add_typer(automations, name="automations")
app.add_typer(keys, name="keys")
for command in (ask, serve, watch, mcp, questions, rebuild, promote, rollback, generations, collect_garbage, evaluate):
    app.command(command.__name__.replace("_", "-"))(command)


def _settings(settings: Any, top_k: int | None, mode: str | None) -> Any:
    given = {"top_k": top_k, "mode": mode}
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def main() -> None:
    """Run the command."""
    main_with(app)


def main_with(run: Callable[[], Any]) -> None:
    """Run a function like the command: print errors as one message, and exit with a code.

    The stack trace of an unexpected error goes to a file, not to the terminal. Files are readable by their owner only.
    """
    os.umask(0o077)
    try:
        run()
    except MisuseError as error:
        _fail(str(error), 2)
    except LockstepError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped. The next sync continues with the recorded work", 130)
    except Exception as error:  # noqa: BLE001 - the last resort of a command: print it, keep the trace for a report
        _fail(
            f"unexpected: {type(error).__name__}: {error}. The trace is in {_keep_trace()}; please report it.",
            1,
        )


def _keep_trace() -> Path:
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="lockstep-", suffix=".log", delete=False) as log:
        log.write(visible(hidden(traceback.format_exc())))
    return Path(log.name)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"lockstep: {visible(hidden(message))}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
