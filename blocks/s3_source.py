"""The bucket that an index is kept in step with."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.loaders import Loader, create_loader
from botocore.utils import parse_timestamp
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import Field

from blocks.schema_once import SchemaOnce, remember_schema

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

for kind in (AwsCredentials, MinIOCredentials):
    remember_schema(kind)


class S3Source(SchemaOnce, Block):
    """A bucket, the part of it that is indexed, and the credentials to read it."""

    _block_type_name = "S3 Source"
    _block_type_slug = "s3-source"
    _description = "An S3-compatible bucket that Lockstep keeps an index in step with."

    bucket: str = Field(min_length=1, description="Name of the bucket.")
    prefix: str = Field(default="", description="Only keys that start with this are indexed.")
    include: list[str] = Field(
        default_factory=list,
        description="Globs over the whole key, such as 'guides/*.md'; a key must match one. Empty: every key.",
    )
    exclude: list[str] = Field(
        default_factory=list, description="Globs over the whole key; a key that matches one is left out."
    )
    max_bytes: int = Field(
        default=50_000_000, ge=1, description="Objects larger than this many bytes are quarantined, not read."
    )
    endpoint_url: str | None = Field(
        default=None, description="Address of an S3-compatible server; empty for AWS itself."
    )
    server: str = Field(
        default="",
        description="Name of the server, if its address may change; empty: its address tells it from others.",
    )
    folder: str = Field(
        default="",
        description="Folder of this machine that the server serves; a listing counts only if all of it can be opened.",
    )
    credentials: AwsCredentials | MinIOCredentials = Field(
        default_factory=AwsCredentials,
        description="Keys from prefect-aws; an empty AwsCredentials uses the machine's own AWS configuration.",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds to wait for a connection and for each answer."
    )

    def get_client(self) -> S3Client:
        """Return a boto3 S3 client (path-style for custom endpoints, three attempts a call)."""
        config = Config(
            connect_timeout=min(self.timeout_seconds, 10.0),
            read_timeout=self.timeout_seconds,
            retries={"mode": "standard", "max_attempts": 3},
            s3={"addressing_style": "path" if self.endpoint_url else "auto"},
        )
        session: Any = self.credentials.get_boto3_session()
        session._session.register_component("data_loader", _descriptions())
        parsers = session._session.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=parse_time)
        return session.client("s3", endpoint_url=self.endpoint_url, config=config)  # type: ignore[no-any-return]


@cache
def _descriptions() -> Loader:
    """Return a loader of botocore's service descriptions, which reads them once a process, not once a client."""
    return create_loader()


def parse_time(said: Any) -> datetime:
    """Return a response's time. botocore tries every form of a time, most of the work of reading a listing."""
    if isinstance(said, str):
        try:
            time = datetime.fromisoformat(said)
        except ValueError:
            return parse_timestamp(said)
        if time.tzinfo:
            return time
    return parse_timestamp(said)
