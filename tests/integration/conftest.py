"""The resources of a sync over the small parts, without a flow around them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server, sqlite_url

if TYPE_CHECKING:
    from tasks.resources import Resources


@pytest.fixture
def resources(s3_server: Server, milvus_lite: Server, bucket: Bucket, tmp_path: Path) -> Iterator[Resources]:
    """Resources with an alias of their own: nothing is in the bucket, in Milvus or in the ledger yet."""
    from prefect_aws import AwsCredentials
    from pydantic import SecretStr

    from blocks.embedder import Embedder
    from blocks.ledger import Ledger
    from blocks.milvus_store import MilvusStore
    from blocks.pipeline import Pipeline
    from blocks.s3_source import S3Source
    from tasks.resources import Resources

    credentials = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )
    pipeline = Pipeline(
        alias=f"t{uuid.uuid4().hex[:10]}",
        source=S3Source(bucket=bucket.name, endpoint_url=s3_server.url, credentials=credentials),
        store=MilvusStore(uri=milvus_lite.url),
        embedder=Embedder(),
        ledger=Ledger(url=SecretStr(sqlite_url(tmp_path))),
    )
    with Resources(pipeline, pipeline.settings, "run") as made:
        yield made
        for name in made.store.client.list_collections():
            if name.startswith(f"{pipeline.alias}_g"):
                if name == made.store.live():
                    made.store.client.drop_alias(pipeline.alias)
                made.store.client.drop_collection(name)
