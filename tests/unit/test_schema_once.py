"""The remembered schema is the one that Prefect makes."""

from __future__ import annotations

import pytest
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, MinIOCredentials

from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source


@pytest.mark.parametrize("kind", [S3Source, MilvusStore, Pipeline, AwsCredentials, MinIOCredentials])
def test_the_schema_is_prefects_own_and_cannot_be_spoiled(kind: type[Block]) -> None:
    first = kind.model_json_schema()
    assert first == Block.model_json_schema.__func__(kind)  # type: ignore[attr-defined]
    first.clear()
    assert kind.model_json_schema()["block_type_slug"] == kind.get_block_type_slug()
