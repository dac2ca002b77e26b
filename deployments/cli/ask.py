"""The command that answers a question."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deployments.cli.options import Filter, Json, Mode, PipelineName, Tenant, TopK, Verbose, scope_of
from deployments.server.shapes import answer_json, answer_of
from tasks.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deployments.cli.remote import Service
    from deployments.environment import Environment
    from tasks.models import Answer, Checked
    from tasks.retrieval.scope import Scope

Stream = Annotated[bool, typer.Option("--stream", help="Stream the answer, each piece as soon as it is checked.")]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Leave out claims without a verified quote.", show_default=False),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Ask the model even if the same question was answered before.")
]
Fallback = Annotated[
    Literal["none", "extractive"] | None,
    typer.Option("--fallback", help="The substitute when the chat model fails; default: the pipeline's."),
]


def ask(  # noqa: PLR0913, PLR0917 - they are the options of a command
    question: Annotated[str, typer.Argument(help="The question.")],
    top_k: TopK = None,
    mode: Mode = None,
    only: Filter = "",
    tenant: Tenant = "",
    stream: Stream = False,
    strict: Strict = None,
    fallback: Fallback = None,
    no_cache: NoCache = False,
    session_id: Annotated[
        str, typer.Option("--session", help="During a canary, questions of one session go to the same generation.")
    ] = "",
    pipeline: PipelineName = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Answer a question from the index with checked citations, by the running service or as a flow run of its own.

    [?] marks statements that no quote supports. Exits with 1 when a required part does not answer.
    """
    from tasks.retrieval.question import checked

    question = checked(question)
    if stream and as_json:
        raise MisuseError("give either --stream or --json, not both: JSON is printed only when it is complete.")
    from deployments import environment
    from deployments.cli import output
    from deployments.cli.remote import SLOW, running_service
    from deployments.endpoints import block_name

    env = environment.load()
    service = running_service(env)
    given: dict[str, Any] = {"top_k": top_k, "mode": mode, "strict": strict, "fallback": fallback}
    with printed(stream) as shown:
        if service:
            where = {"pipeline": pipeline or block_name(env.collection_name)}
            scope = {"filter": only, "tenant": tenant, "session": session_id, **where}
            answer = from_service(service, question, {**given, **scope, "cache": not no_cache, "stream": stream})
        else:
            given |= {"cache_seconds": 0.0} if no_cache else {}
            answer = in_process(env, question, given, session_id, scope_of(only, tenant), pipeline, verbose)
    if as_json:
        output.as_json(answer_json(answer))
        for note in answer.notes:
            output.say(note)
    else:
        output.answer_text(answer, "".join(shown))
    if not service:
        output.say(SLOW)


def from_service(service: Service, question: str, body: dict[str, Any]) -> Answer:
    """Return the service's answer. Its pieces go to the listener as they come."""
    from tasks.listeners import reader
    from tasks.models import Checked

    body = {"question": question, **body}
    read = reader.get()
    if read is None:
        return answer_of(question, service.call("/ask", body))
    told: dict[str, Any] = {}
    for name, told in service.events("/ask", body):
        if name == "claim":
            read(Checked(told["text"]))
    return answer_of(question, told)


def in_process(
    env: Environment,
    question: str,
    given: dict[str, Any],
    session_id: str,
    scope: Scope,
    pipeline: str | None,
    verbose: bool,
) -> Answer:
    """Return an answer made in this process, as a flow run."""
    from deployments.cli.session import open_session

    session = open_session(env, pipeline, verbose)
    from flows.ask import ask as run
    from flows.prefect_runs import without_heartbeat
    from tasks.pipelines import load_pipeline

    settings = with_given(load_pipeline(session.pipeline).settings, given)
    with without_heartbeat():
        return run(question, session.pipeline, settings, session_id, scope.filter, scope.tenant)


def with_given(settings: Any, given: dict[str, Any]) -> Any:
    """Return the settings with the given options. None means not given."""
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


@contextmanager
def printed(stream: bool) -> Iterator[list[str]]:
    """Print the pieces of an answer on stdout while it is streamed. Yield the list of printed pieces."""
    from deployments.cli.output import write
    from tasks.listeners import reader

    shown: list[str] = []

    def read(piece: Checked) -> None:
        shown.append(piece.text)
        write(piece.text)

    token = reader.set(read if stream else None)
    try:
        yield shown
    finally:
        reader.reset(token)
        if shown and not shown[-1].endswith("\n"):
            write("\n")
