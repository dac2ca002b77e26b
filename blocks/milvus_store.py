"""The Milvus server that holds the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.pymilvus_import import load_pymilvus
from blocks.schema_once import SchemaOnce

if TYPE_CHECKING:
    from pymilvus import MilvusClient

KEEPALIVE_MS = 330_000
"""gRPC servers disconnect clients that ping more often than every 5 minutes (Milvus Lite: 'too_many_pings'). pymilvus
pings every 10 s. Every call has a deadline, so a dead peer is noticed without pings."""


class MilvusStore(SchemaOnce, Block):
    """The address of Milvus and the credentials to write to it."""

    _block_type_name = "Milvus Store"
    _block_type_slug = "milvus-store"
    _description = "A Milvus server (2.3 or later), Zilliz Cloud, or a Milvus Lite server."

    uri: str = Field(min_length=1, description="Address, such as http://milvus:19530.")
    token: SecretStr | None = Field(default=None, description="API key or 'user:password'; empty for none.")
    database: str | None = Field(default=None, description="Database; empty for the server's default.")
    timeout_seconds: float = Field(default=30.0, gt=0, description="Seconds to wait for each answer.")

    def get_client(self) -> MilvusClient:
        """Return a connected client. Raises pymilvus' own error if the server does not answer.

        The client has a connection of its own, which its ``close()`` closes. pymilvus would keep a shared one for ever.
        """
        client: MilvusClient = load_pymilvus().MilvusClient(
            uri=self.uri,
            token=self.token.get_secret_value() if self.token else "",
            db_name=self.database or "",
            timeout=min(self.timeout_seconds, 10.0),
            dedicated=True,
            grpc_options={"grpc.keepalive_time_ms": KEEPALIVE_MS},
        )
        return client
