"""List the bucket, a page at a time, in constant memory."""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tasks.bucket.errors import MovedOnError, s3_errors, where
from tasks.bucket.identity import still_named
from tasks.bucket.ranges import Page, list_ranges
from tasks.errors import PartError, TransientError
from tasks.limits import LeftOut
from tasks.models import WRITTEN, ObjectRef

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source


PAGE = 1000
WHOLE = "No object is deleted because such a listing lacks it. The next sync lists again."


def selected(key: str, include: list[str], exclude: list[str]) -> bool:
    """Return whether a key is indexed: no folder marker, matches an include glob (if any) and no exclude glob."""
    if key.endswith("/"):
        return False
    if include and not any(fnmatchcase(key, glob) for glob in include):
        return False
    return not any(fnmatchcase(key, glob) for glob in exclude)


def indexed_from(source: S3Source, key: str) -> bool:
    """Return whether a key of the bucket is indexed: it has the source's prefix, and is selected."""
    return key.startswith(source.prefix) and selected(key, source.include, source.exclude)


def etag_of(said: str) -> str:
    """Return an ETag without its quotes. A weak ETag keeps its mark, as in ``W/e``."""
    weak = "W/" * said.startswith('W/"')
    return weak + said.removeprefix(weak).strip('"')


def version_of(said: Mapping[str, Any]) -> str:
    """Return an object's version from a listing entry or a response: its ETag without quotes.

    Some servers have no ETags (rclone over a store without checksums). Then the version is the time of writing, in
    seconds, because a response has no finer time.
    """
    return etag_of(said["ETag"]) or f"{WRITTEN}{int(said['LastModified'].timestamp())}"


def to_ref(listed: Any) -> ObjectRef:
    """Return the reference of one listing entry. Some servers quote ETags and some do not."""
    return ObjectRef(
        key=listed["Key"],
        etag=version_of(listed),
        size=listed["Size"],
        last_modified=int(listed["LastModified"].timestamp() * 1000),
    )


def pages(
    client: S3Client,
    source: S3Source,
    left_out: LeftOut | None = None,
    cuts: Sequence[str] = (),
    at_once: int = 1,
) -> Generator[list[ObjectRef], None, None]:
    """Yield the bucket's selected objects in pages of up to 1,000, in the server's order.

    The ranges of keys between ``cuts``, which ascend, are listed ``at_once``, each by a thread. Close the iterator if
    you do not read all of it, which ends them.

    Objects for which no row can be stored are counted in ``left_out``. The iteration ends only if the server says that
    the listing is complete. Raises ``PartError`` if the bucket or the credentials are wrong. Raises ``TransientError``
    if the server does not answer, or its listing breaks off.
    """
    left_out = left_out or LeftOut()
    strange = f"S3: {where(source)} does not answer like an S3 server. Check AWS_ENDPOINT_URL and BUCKET."
    try:
        readable(source)
        listing_after = partial(_pages, client, source, strange)
        cuts = [cut for cut in cuts if cut.startswith(source.prefix)] if at_once > 1 else []
        with closing(list_ranges(listing_after, cuts, at_once, partial(broke_off, source))) as listing:
            for refs in listing:
                yield left_out.keepable(refs)
        readable(source)  # a folder may have become unreadable during the listing
    except MovedOnError as error:
        raise PartError(strange) from error
    except ValueError as error:  # the client cannot parse the response
        raise TransientError(f"{strange} ({error})") from error


def broke_off(source: S3Source, why: str) -> TransientError:
    """Return the error for a listing that lacks its end."""
    return TransientError(f"S3: the listing of {where(source)} broke off: {why}. {WHOLE}")


def _pages(client: S3Client, source: S3Source, strange: str, start: str) -> Iterator[Page]:
    """Yield the pages of the listing that begins after the key ``start``."""
    with s3_errors(source):
        paginator = client.get_paginator("list_objects_v2")
        after: Any = {"StartAfter": start} if start else {}
        before: Any = None
        for page in paginator.paginate(Bucket=source.bucket, Prefix=source.prefix, **after):
            if "Name" not in page:
                # A web page, or a truncated response. Taken as an empty listing, it would delete the whole index.
                raise TransientError(strange)
            if wrong := wrong_page(page, before, source.prefix):
                raise TransientError(f"S3: the listing of {where(source)} cannot be trusted: {wrong}. {WHOLE}")
            before = page
            entries = page.get("Contents", [])
            yield Page(
                [entry["Key"] for entry in entries],
                [
                    to_ref(entry) if selected(entry["Key"], source.include, source.exclude) else None
                    for entry in entries
                ],
            )
        if wrong := not_the_last(before or {}):
            raise broke_off(source, wrong)


def wrong_page(page: Mapping[str, Any], before: Mapping[str, Any] | None, prefix: str) -> str:
    """Return why a page cannot be the next part of the requested listing, or '' if it can."""
    keys = [entry["Key"] for entry in page.get("Contents", [])]
    if page.get("KeyCount", 0) > len(keys) + len(page.get("CommonPrefixes", [])):
        return f"a page announces {page['KeyCount']:,} keys and has {len(keys):,}"
    if stranger := next((key for key in keys if not key.startswith(prefix)), None):
        return f"it has '{stranger}', which does not begin with the prefix '{prefix}'"
    echoed = page.get("Prefix") or ""
    if not keys and prefix not in (echoed, unquote(echoed)):
        return f"it is for the prefix '{echoed}', not for '{prefix}'"
    for entry in page.get("Contents", []):
        lacks = [name for name in ("ETag", "LastModified", "Size") if name not in entry]
        if lacks and not entry["Key"].endswith("/"):
            return f"it has no {lacks[0]} for '{entry['Key']}'"
    if keys and before and keys == [entry["Key"] for entry in before.get("Contents", [])]:
        return f"the page up to '{keys[-1]}' came twice"
    return ""


def not_the_last(page: Mapping[str, Any]) -> str:
    """Return why another page must follow the last one received, or '' if none has to."""
    if page.get("IsTruncated"):
        return "the server says that there is more, but not where to continue (it may support only listing V1)"
    if "IsTruncated" in page:
        return ""
    full = len(page.get("Contents", [])) >= (page.get("MaxKeys") or PAGE)
    return (
        "the server does not say whether the listing is complete" if full or page.get("NextContinuationToken") else ""
    )


def readable(source: S3Source) -> None:
    """Raise ``TransientError`` if a folder that an embedded server serves cannot be opened.

    rclone then answers as if the folder did not exist. Only its log says otherwise.
    """
    if not source.folder or not still_named(source):
        return

    def refuse(error: OSError) -> None:
        raise TransientError(
            f"S3: the folder {error.filename} cannot be opened ({error.strerror}), so its objects are not listed. "
            "Nothing was changed. Make the folder readable. The next sync goes on."
        ) from error

    for _ in os.walk(Path(source.folder), onerror=refuse):
        pass


def without_golden(source: S3Source, golden: str) -> S3Source:
    """Return the source without the golden questions. If they were indexed, they would answer themselves."""
    key = golden.removeprefix(f"s3://{source.bucket}/")
    if key == golden:
        return source
    return source.model_copy(update={"exclude": [*source.exclude, glob.escape(key)]})
