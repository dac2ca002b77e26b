"""Retries for calls that are too small to be tasks."""

from __future__ import annotations

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from tasks.errors import TransientError

TRIES = 6
patiently = retry(
    retry=retry_if_exception_type(TransientError),
    stop=stop_after_attempt(TRIES),
    wait=wait_exponential(multiplier=2) + wait_random(0, 2),
    reraise=True,
)
"""Retries like those of a task that calls a server (:mod:`tasks.task_runs`), for calls that a flow makes itself."""
