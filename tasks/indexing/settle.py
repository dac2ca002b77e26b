"""Have Milvus put what was written away, so that searches use the index for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.retries import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Tools

MANY = 1000
"""Rows that are worth it. What was just written is searched row by row: some thousands slow each search down twentyfold
on Milvus Lite. Fewer than that are left to the server: each time makes a segment of its own."""


@task(name="settle", task_run_name="have what was written to {collection} indexed", **RETRIED)
def settle(tools: Tools, collection: str) -> None:
    """Flush a collection; its index is built while it answers."""
    tools.store.flush(collection)
