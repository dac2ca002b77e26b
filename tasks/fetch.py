"""Bring an object's bytes here: the version that was listed, or none."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tasks.errors import TransientError
from tasks.listing import bare
from tasks.models import Fetched, ObjectRef
from tasks.s3_errors import CHANGED, MovedOnError, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source

PIECE_BYTES = 1 << 20


def _get(client: S3Client, source: S3Source, ref: ObjectRef) -> Any:
    try:
        return client.get_object(Bucket=source.bucket, Key=ref.key, IfMatch=f'"{ref.etag}"')
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code", "")) not in CHANGED:
            raise
    # Another version, or a server with weak ETags, none of which ever matches: the answer's own ETag tells.
    return client.get_object(Bucket=source.bucket, Key=ref.key)


def fetch(client: S3Client, source: S3Source, ref: ObjectRef, spool: Path) -> Fetched:
    """Write the object to a file under ``spool`` and return where.

    Raises ``MovedOnError`` when the bucket no longer has the version of ``ref``, ``TransientError`` when
    the server does not answer or the bytes break off. The ETag of the answer is compared as well, since
    not every server honours If-Match.
    """
    with translated(source, one_object=True):
        answer = _get(client, source, ref)
        if bare(answer["ETag"]) != ref.etag:
            raise MovedOnError(f"'{ref.key}' changed while it was being read")
        path = spool / uuid.uuid4().hex
        with path.open("wb") as file:
            for piece in answer["Body"].iter_chunks(PIECE_BYTES):
                file.write(piece)
        if path.stat().st_size != ref.size:
            raise TransientError(f"S3: '{ref.key}' broke off at {path.stat().st_size} of {ref.size} bytes.")
    return Fetched(
        ref=ref,
        path=path,
        content_type=answer.get("ContentType", ""),
        # Servers differ in the case of metadata names; HTTP does not tell them apart.
        metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
    )
