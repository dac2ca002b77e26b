"""The options with which Prefect runs our tasks: retries, caching and the logger."""

from __future__ import annotations

import logging
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from tasks.errors import is_transient

ONCE: dict[str, Any] = {
    # Inputs hold clients and vectors. Prefect cannot hash them for a cache key, and should not store them.
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
"""Options of a task that calls a server. Transient errors get six attempts, 2, 4, 8, 16 and 32 s apart plus up to half
as long again. A server that restarts is back by then."""


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of the current flow or task run, or Lockstep's own outside of a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("lockstep")
