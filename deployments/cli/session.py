"""Prepare a command: read the environment, resolve the addresses, and point this process at Prefect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments import environment, state
from deployments.endpoints import Endpoints
from deployments.environment import Environment
from deployments.local import stack
from tasks.errors import PartError
from tasks.logs import clean_logs

if TYPE_CHECKING:
    from deployments.deploy import Before


@dataclass(frozen=True)
class Session:
    """An open session; ``pipeline`` is the name of the block that flows take.

    ``before`` is that block as it was, when this session saved another one because a person accepts another bucket.
    """

    env: Environment
    here: Endpoints
    pipeline: str
    before: Before | None = None


QUIET = {
    # The API and the UI get every log line; the terminal gets the command's own words.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
}


def enter(env: Environment, verbose: bool = False) -> None:
    """Point this process at the Prefect in force, before Prefect is imported; its log lines hold no passwords."""
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
    """Return a session for the named pipeline, or for the one that the environment describes.

    With ``saves`` that is saved if it changed; else it is used as it is saved, and where it differs is said. Raises
    ``MisuseError`` when the parts it needs are neither configured nor running.
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


@contextmanager
def prefect_answers(api_url: str) -> Iterator[None]:
    """Translate what Prefect's client raises when its server does not answer, or refuses."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = "Check PREFECT_API_KEY or PREFECT_API_AUTH_STRING." if status in (401, 403) else "See its log."
        raise PartError(f"Prefect: {api_url} answered {status} to {error.request.url.path}. {hint}") from error
    except httpx.HTTPError as error:
        raise PartError(
            f"Prefect: {api_url} does not answer ({type(error).__name__}). Run `lockstep up`, or check PREFECT_API_URL."
        ) from error
