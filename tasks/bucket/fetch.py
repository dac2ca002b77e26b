"""Download an object: exactly the version that was listed, or nothing."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tasks.bucket.errors import CHANGED, MovedOnError, s3_errors
from tasks.bucket.listing import version_of
from tasks.errors import TransientError, WithheldError
from tasks.models import WRITTEN, Fetched, ObjectRef

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source

PIECE_BYTES = 1 << 20
WEAK = "W/"


def _get(client: S3Client, source: S3Source, ref: ObjectRef) -> Any:
    if not ref.etag.startswith((WEAK, WRITTEN)):
        try:
            return client.get_object(Bucket=source.bucket, Key=ref.key, IfMatch=f'"{ref.etag}"')
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) not in CHANGED:
                raise
    # If-Match failed, or cannot be used: a weak ETag never matches. The caller compares the response's own ETag.
    return client.get_object(Bucket=source.bucket, Key=ref.key)


def head(client: S3Client, source: S3Source, key: str) -> ObjectRef:
    """Return the version of a key that the bucket has now. Raises ``MovedOnError`` if there is none."""
    with s3_errors(source, one_object=True):
        answer = client.head_object(Bucket=source.bucket, Key=key)
    written = int(answer["LastModified"].timestamp() * 1000)
    return ObjectRef(key, version_of(answer), int(answer["ContentLength"]), written)


def fetch(client: S3Client, source: S3Source, ref: ObjectRef, spool: Path) -> Fetched:
    """Write the object to a file under ``spool`` and return it with the file's path.

    Raises ``MovedOnError`` if the bucket no longer has the version of ``ref``. Raises ``WithheldError`` if it hands out
    another number of bytes than it lists. Raises ``TransientError`` if the server does not answer or the bytes break
    off. The ETag of the response is compared too, because not every server honours If-Match. A weak ETag never matches
    there, so it is only compared.
    """
    with s3_errors(source, one_object=True):
        answer = _get(client, source, ref)
        # A proxy that compresses responses may weaken an ETag. It still names the version.
        if version_of(answer).removeprefix(WEAK) != ref.etag.removeprefix(WEAK):
            raise MovedOnError(f"'{ref.key}' changed while it was being read")
        path = spool / uuid.uuid4().hex
        with path.open("wb") as file:
            for piece in answer["Body"].iter_chunks(PIECE_BYTES):
                file.write(piece)
        read = path.stat().st_size
        if read != ref.size and answer.get("ContentLength") == ref.size:
            raise TransientError(f"S3: '{ref.key}' broke off at {read} of {ref.size} bytes.")
        if read != ref.size:
            raise WithheldError(f"the bucket lists {ref.size:,} bytes for this version, but hands out {read:,}")
    return Fetched(
        ref=ref,
        path=path,
        content_type=answer.get("ContentType", ""),
        # Servers differ in the case of metadata names; HTTP does not tell them apart.
        metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
    )
