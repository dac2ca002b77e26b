"""Save pipelines that use the parts of a test."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket


def pipeline_maker(bucket: Bucket, s3_url: str, milvus_url: str, ledger_url: str) -> Callable[..., str]:
    """Return a function that saves a pipeline over a bucket and returns its name. ``make`` has its arguments."""
    from prefect_aws import AwsCredentials
    from pydantic import SecretStr

    from blocks.embedder import Embedder
    from blocks.ledger import Ledger
    from blocks.milvus_store import MilvusStore
    from blocks.pipeline import Pipeline
    from blocks.s3_source import S3Source
    from blocks.settings import Settings
    from deployments.register import save

    own = f"t{uuid.uuid4().hex[:10]}"
    credentials = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )

    def make(
        source: dict[str, Any] | None = None,
        embedder: dict[str, Any] | None = None,
        ledger: str = ledger_url,
        milvus: str = milvus_url,
        chat_model: Any = None,
        alias: str = own,
        name: str = own,
        *,
        milvus_seconds: float = 30.0,
        **settings: Any,
    ) -> str:
        of_source = {"bucket": bucket.name, "endpoint_url": s3_url, "credentials": credentials, **(source or {})}
        pipeline = Pipeline(
            alias=alias,
            source=S3Source(**of_source),
            store=MilvusStore(uri=milvus, timeout_seconds=milvus_seconds),
            embedder=Embedder(**(embedder or {})),
            ledger=Ledger(url=SecretStr(ledger)),
            chat_model=chat_model,
            settings=Settings(**settings),
        )
        return save(pipeline, name)

    return make
