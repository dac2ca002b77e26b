"""What the service asks Prefect, without the minutes of patience that a flow has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

ASKED_FOR_SECONDS = 5.0


@contextmanager
def once() -> Iterator[None]:
    """Have Prefect's client ask once, for a few seconds."""
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ASKED_FOR_SECONDS}):
        yield


async def pipeline_names() -> list[str]:
    """Return the names under which pipelines are saved. Raises what Prefect's client raises."""
    from prefect.client.orchestration import get_client

    from blocks.pipeline import Pipeline

    with once():
        async with get_client() as client:
            slug = Pipeline.get_block_type_slug()
            documents = await client.read_block_documents_by_type(slug, include_secrets=False)
    return [document.name for document in documents if document.name]
