"""Open a session for a command: the environment, the parts in use, and the connection to Prefect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments import environment, state
from deployments.endpoints import Endpoints, resolve
from deployments.environment import Environment
from deployments.local import stack
from tasks.errors import PartError
from tasks.logs import clean_logs

if TYPE_CHECKING:
    from deployments.deploy import Before
    from tasks.ledger.database import Database


@dataclass(frozen=True)
class Session:
    """An open session. ``pipeline`` is the name of the pipeline block for the flows.

    ``before`` is the block before this session saved it, if the user accepts another bucket (--accept-source).
    """

    env: Environment
    here: Endpoints
    pipeline: str
    before: Before | None = None


QUIET = {
    # The API and the UI get every log line. The terminal gets only the command's own output.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
}


def enter(env: Environment, verbose: bool = False) -> None:
    """Point this process at its Prefect server, before Prefect is imported. Mask passwords in log lines."""
    clean_logs()
    environment.enter({**environment.prefect_environment(env, state.load(env.home)), **({} if verbose else QUIET)})
    if not verbose:
        logging.getLogger("transformers").setLevel(logging.ERROR)


def open_session(
    env: Environment,
    pipeline: str | None = None,
    verbose: bool = False,
    *,
    saves: bool = False,
    accept_source: bool = False,
) -> Session:
    """Return a session for the named pipeline, or for the environment's pipeline.

    With ``saves``, a changed environment's pipeline is saved. Otherwise the saved pipeline is used, and differences
    are printed. Raises ``MisuseError`` when required parts are neither configured nor running.
    """
    here = stack.endpoints(env)
    enter(env, verbose)
    with prefect_answers(here.prefect_api_url):
        from deployments.cli import output
        from deployments.deploy import as_it_was, as_saved, ensure_registered

        if saves:
            before = as_it_was(env, here.pipeline) if accept_source and not pipeline else None
            return Session(env, here, pipeline or ensure_registered(env, here, accept_source), before)
        return Session(env, here, pipeline or as_saved(env, here, output.say))


def open_prefect(env: Environment, pipeline: str | None = None) -> Session:
    """Return a session for a command that needs no part but Prefect. It saves nothing, and opens no pipeline."""
    here = resolve(env, state.load(env.home)) if env.prefect_api_url else stack.endpoints(env)
    enter(env)
    return Session(env, here, pipeline or here.pipeline)


def open_ledger(pipeline: str | None) -> tuple[str, Database]:
    """Return the name of a pipeline, the environment's by default, and its ledger, open."""
    session = open_session(environment.load(), pipeline)
    from tasks.ledger.database import Database
    from tasks.pipelines import load_pipeline

    return session.pipeline, Database(load_pipeline(session.pipeline).ledger)


@contextmanager
def prefect_answers(api_url: str) -> Iterator[None]:
    """Translate the errors of Prefect's client when its server does not answer or refuses the request."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = "Check PREFECT_API_KEY or PREFECT_API_AUTH_STRING." if status in (401, 403) else "See the server's log."
        raise PartError(f"Prefect: {api_url} answered {status} to {error.request.url.path}. {hint}") from error
    except httpx.HTTPError as error:
        raise PartError(
            f"Prefect: {api_url} does not answer ({type(error).__name__}). Run `lockstep up`, or check PREFECT_API_URL."
        ) from error
