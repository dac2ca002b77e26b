"""How often and how patiently a task is tried again."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from tasks.errors import is_transient

ONCE: dict[str, Any] = {
    # Inputs hold clients and vectors: nothing that Prefect could hash for a cache key, nor should keep.
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
RETRIED: dict[str, Any] = {
    **ONCE,
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}
"""Options of a task that calls a server: five attempts, 2, 4, 8 and 16 s apart and up to half as long again,
for transient errors only."""
