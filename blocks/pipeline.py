"""One index: its bucket, its store, its models and its settings, under one name."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field

from blocks.chat_model import ChatModel
from blocks.embedder import Embedder
from blocks.ledger import Ledger
from blocks.milvus_store import MilvusStore
from blocks.s3_source import S3Source
from blocks.schema_once import SchemaOnce
from blocks.settings import Settings


class Pipeline(SchemaOnce, Block):
    """A bucket prefix, an alias, and everything needed to keep the alias in step with the bucket."""

    _block_type_name = "Pipeline"
    _block_type_slug = "pipeline"
    _description = "One Lockstep index: bucket prefix, Milvus alias, models and settings. Flows take its name."

    alias: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,200}$",
        description="Milvus alias that queries use; collections behind it are called ALIAS_g0001, ALIAS_g0002, …",
    )
    source: S3Source = Field(description="The bucket.")
    store: MilvusStore = Field(description="The Milvus server.")
    embedder: Embedder = Field(description="The embedding model.")
    ledger: Ledger = Field(description="The database of what is indexed.")
    chat_model: ChatModel | None = Field(
        default=None, description="The chat model; empty: answers are extracts of the documents."
    )
    settings: Settings = Field(default_factory=Settings, description="Behaviour of this pipeline.")
