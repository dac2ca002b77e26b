"""How often and how patiently a task is tried again."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from tasks.errors import TransientError, is_transient

ONCE: dict[str, Any] = {
    # Inputs hold clients and vectors: nothing that Prefect could hash for a cache key, nor should keep.
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
RETRIED: dict[str, Any] = {
    **ONCE,
    "retries": 5,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}
"""Options of a task that calls a server: six attempts, 2, 4, 8, 16 and 32 s apart and up to half as long again, for
transient errors only: a server that restarts is back by then."""

patiently = retry(
    retry=retry_if_exception_type(TransientError),
    stop=stop_after_attempt(6),
    wait=wait_exponential(multiplier=2) + wait_random(0, 2),
    reraise=True,
)
"""The same patience for calls that a flow makes itself, too small to be tasks."""
