"""The form of a generation in Milvus: fields, indexes and names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.limits import HEADING_BYTES, KEY_BYTES, TEXT_BYTES
from tasks.milvus.capabilities import Capabilities
from tasks.milvus.index_types import build_params

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient
    from pymilvus.milvus_client import IndexParams

    from blocks.settings import Settings

ID_LENGTH = 32
WORDS_BYTES = 65_535
GENERATION = re.compile(r"\d{4,}")
NO_PAGE = 0
"""Stands for no page, because pages count from 1 and older servers have no nullable fields."""


def physical(alias: str, number: int) -> str:
    """Return a generation's name: docs, 7 → docs_g0007."""
    return f"{alias}_g{number:04d}"


def generation_number(alias: str, collection: str) -> int | None:
    """Return the number in a generation's name, or None if the collection is no generation of the alias."""
    name, _, number = collection.rpartition("_g")
    return int(number) if name == alias and GENERATION.fullmatch(number) else None


def fields(client: MilvusClient, dimension: int, can: Capabilities, tenants: bool = False) -> CollectionSchema:
    """Return the schema of a chunk's row. The server computes BM25, if it can.

    The field ``words`` holds the words of the text as we split it. With ``tenants``, the tenant is the partition key if
    the server supports that, so that each tenant's rows lie together.
    """
    from pymilvus import DataType, Function, FunctionType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_LENGTH)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field("text", DataType.VARCHAR, max_length=TEXT_BYTES)
    schema.add_field("text_hash", DataType.VARCHAR, max_length=ID_LENGTH)
    schema.add_field("key", DataType.VARCHAR, max_length=KEY_BYTES)
    schema.add_field("etag", DataType.VARCHAR, max_length=256)
    schema.add_field("chunk_index", DataType.INT64)
    schema.add_field("heading", DataType.VARCHAR, max_length=HEADING_BYTES)
    schema.add_field("page", DataType.INT64)
    schema.add_field("last_modified", DataType.INT64)
    schema.add_field("indexed_at", DataType.INT64)
    schema.add_field("flow_run_id", DataType.VARCHAR, max_length=64)
    schema.add_field("metadata", DataType.JSON)
    if tenants:
        schema.add_field("tenant", DataType.VARCHAR, max_length=KEY_BYTES, is_partition_key=can.partition_key)
    if can.bm25:
        schema.add_field("words", DataType.VARCHAR, max_length=WORDS_BYTES, enable_analyzer=True)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["words"], ["sparse"]))
    return schema


def indexes(client: MilvusClient, can: Capabilities, settings: Settings) -> IndexParams:
    """Return the indexes: the chosen type for vectors (cosine), BM25 if supported, and scalar ones for filters."""
    params, build = client.prepare_index_params(), build_params(settings)
    if can.lite:  # Milvus Lite reads build parameters only where pymilvus 2 put them, not where pymilvus 3 does
        build = {"params": build}
    params.add_index("embedding", index_type=settings.index_type, metric_type="COSINE", params=build)
    if can.bm25:
        params.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    for name in ("key", "text_hash", "heading", *(["tenant"] if settings.tenants else [])):
        params.add_index(name, index_type="INVERTED" if can.inverted else "Trie")
    for name in ("page", "last_modified"):
        params.add_index(name, index_type="INVERTED" if can.inverted else "STL_SORT")
    return params
