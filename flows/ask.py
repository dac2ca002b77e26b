"""Answer a question from the live generation, with citations.

    question ──embed──▶ search ──▶ prompt ──▶ chat model ──▶ check citations ──▶ answer
                           │                      │
                           ├── nothing near enough┼───────▶ abstain
                           ├── answered before    │   ────▶ the same answer
                           └── no chat model      └─fails─▶ extract sentences

The steps are tasks, so that the Prefect UI shows the duration of each.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlsplit

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.pipeline import Pipeline
from blocks.settings import Settings
from tasks.answers.answer import answer, recorded
from tasks.answers.report import answer_markdown
from tasks.models import Answer
from tasks.pipelines import load_pipeline
from tasks.retrieval.scope import Scope
from tasks.sanitize import one_line
from tasks.text.markdown import inline

NAME_LENGTH = 80


def run_name() -> str:
    """Return the name of a run: the pipeline and the start of the question."""
    given = flow_run.parameters
    shortened = " ".join(one_line(str(given["question"])).split())
    return f"ask {given['pipeline']}: {shortened[:NAME_LENGTH]}{'…' if len(shortened) > NAME_LENGTH else ''}"


@flow(name="ask", flow_run_name=run_name)
def ask(
    question: str,
    pipeline: str = "docs",
    settings: Settings | None = None,
    session: str = "",
    filter: str = "",
    tenant: str = "",
) -> Answer:
    """Answer a question from the pipeline's index and return the answer with its citations.

    ``settings`` replaces the pipeline's own for this question. During a canary, all questions of a ``session`` go to
    the same generation. ``filter`` (see `tasks/retrieval/filters.py`) and ``tenant`` limit the objects.

    Raises ``MisuseError`` for an empty question or a malformed filter. Raises ``PartError`` before the first sync and
    when a part refuses the call.
    """
    block = load_pipeline(pipeline)
    answered = answer(block, question, settings or block.settings, recorded, session, Scope(filter, tenant))
    answered = replace(answered, flow_run_id=flow_run.id or "")
    create_markdown_artifact(
        answer_markdown(answered, {one.key: link(block, one.key) for one in answered.citations}),
        key=f"ask-{pipeline}",
        description=inline(question),
    )
    return answered


def link(pipeline: Pipeline, key: str) -> str:
    """Return the address of an object without credentials: on its server, or as s3:// without an endpoint."""
    source = pipeline.source
    path = quote(f"{source.bucket}/{key}")
    if not source.endpoint_url:
        return f"s3://{path}"
    server = urlsplit(source.endpoint_url)
    return f"{server.scheme}://{server.netloc.rpartition('@')[2]}{server.path.rstrip('/')}/{path}"
