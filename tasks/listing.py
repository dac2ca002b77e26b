"""List the bucket, a page at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tasks.errors import PartError, TransientError
from tasks.limits import LeftOut
from tasks.models import ObjectRef
from tasks.s3_errors import MovedOnError, translated, where

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source


def selected(key: str, include: list[str], exclude: list[str]) -> bool:
    """Say whether a key counts: not a folder marker, matches an include glob (if any) and no exclude glob."""
    if key.endswith("/"):
        return False
    if include and not any(fnmatchcase(key, glob) for glob in include):
        return False
    return not any(fnmatchcase(key, glob) for glob in exclude)


def bare(etag: str) -> str:
    """Return an ETag without its quotes, and without the mark of a weak one, which names the same bytes here."""
    return etag.removeprefix("W/").strip('"')


def to_ref(listed: Any) -> ObjectRef:
    """Return the reference of one entry of a listing; servers differ in whether they quote ETags."""
    return ObjectRef(
        key=listed["Key"],
        etag=bare(listed["ETag"]),
        size=listed["Size"],
        last_modified=int(listed["LastModified"].timestamp() * 1000),
    )


def pages(client: S3Client, source: S3Source, left_out: LeftOut | None = None) -> Iterator[list[ObjectRef]]:
    """Yield the bucket's selected objects in pages of up to 1,000, in the server's order.

    Those that no row can be kept of are counted in ``left_out``. Raises ``PartError`` when the bucket or the
    credentials are wrong, ``TransientError`` when the server does not answer.
    """
    left_out = left_out or LeftOut()
    strange = f"S3: {where(source)} does not answer like an S3 server. Check AWS_ENDPOINT_URL and BUCKET."
    try:
        for refs in _pages(client, source, strange):
            yield left_out.keepable(refs)
    except MovedOnError as error:
        raise PartError(strange) from error


def _pages(client: S3Client, source: S3Source, strange: str) -> Iterator[list[ObjectRef]]:
    with translated(source):
        paginator = client.get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=source.bucket, Prefix=source.prefix):
            if "Name" not in page:
                # Some web page, or an answer that broke off: as an empty listing it would delete the whole index.
                raise TransientError(strange)
            refs = (to_ref(entry) for entry in page.get("Contents", []))
            yield [ref for ref in refs if selected(ref.key, source.include, source.exclude)]
