"""Have a search see the writes that the ledger knows of, without waiting for more than those.

A search may be some seconds behind the last write on a cluster (Milvus' bounded staleness). Strong consistency would
make every search wait for Milvus' clock. A search that names the time of the last write, as Milvus gave it to the
writer, waits only until that write can be seen, and afterwards for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def last_write(client: MilvusClient, collection: str) -> int:
    """Return Milvus' own time of this process' last write to a collection, or 0 if there is none or no such time.

    pymilvus keeps it for its session consistency, which other processes cannot use.
    """
    from pymilvus.client.cache import GlobalCache

    handler: Any = client._get_connection()
    return int(GlobalCache.collection_ts.get(handler.server_address, client._config.db_name or "", collection) or 0)


def seeing(time: int | None) -> dict[str, Any]:
    """Return the options of a search that sees all writes up to a time of Milvus. None leaves it bounded."""
    return {"consistency_level": "Customized", "guarantee_timestamp": time} if time else {}
