"""Give a flow run a name that says what it turned out to be about."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run


def rename_run(name: str) -> None:
    """Rename the flow run that this is called from; does nothing outside of one."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name)
