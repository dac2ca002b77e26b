"""Fetch and parse the objects of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks.bucket.errors import MovedOnError, s3_errors
from tasks.bucket.fetch import fetch
from tasks.documents.parse import parse_into
from tasks.documents.sandbox import Isolated
from tasks.documents.spool import Spool
from tasks.errors import LockstepError, PermanentError, TransientError, UnsuitableError, WithheldError
from tasks.models import Document, Failure, Fetched, ObjectRef, ParsedBatch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source

DOWNLOADS_AT_ONCE = 8
NOT_HANDED_OUT = "the bucket did not hand it out in any of several tries, but hands out other objects"


def too_large(ref: ObjectRef, source: S3Source) -> Failure | None:
    """Return a failure if an object is larger than the source's limit and must not be read."""
    if ref.size <= source.max_bytes:
        return None
    return Failure(
        ref, f"it has {ref.size:,} bytes, more than the limit of {source.max_bytes:,} (max_bytes)", unsuitable=True
    )


def parse_batch(
    refs: Sequence[ObjectRef], client: S3Client, source: S3Source, isolated: Isolated, last_try: bool = False
) -> ParsedBatch:
    """Return the documents of a batch, the failed objects, and the objects that changed while being read.

    Raises ``TransientError`` when objects cannot be fetched. In the last try these objects fail instead, if the
    bucket hands out others: then the bucket is not down.
    """
    failures = [failure for ref in refs if (failure := too_large(ref, source))]
    left_out = {failure.ref.key for failure in failures}
    moved_on: list[ObjectRef] = []
    unfetched: list[tuple[ObjectRef, TransientError]] = []

    def attempt(ref: ObjectRef) -> Fetched | None:
        try:
            return fetch(client, source, ref, Path(spool))
        except MovedOnError:
            moved_on.append(ref)
        except PermanentError as error:
            failures.append(Failure(ref, str(error), withheld=isinstance(error, WithheldError)))
        except TransientError as error:
            unfetched.append((ref, error))
        return None

    with TemporaryDirectory(prefix="lockstep-") as spool, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as downloads:
        fetched = [one for one in downloads.map(attempt, [r for r in refs if r.key not in left_out]) if one]
        if unfetched:
            if not last_try or not (fetched or others_answer(client, source, [ref.key for ref, _ in unfetched])):
                raise unfetched[0][1]
            failures += [Failure(ref, f"{NOT_HANDED_OUT} ({error})", withheld=True) for ref, error in unfetched]
        documents = parse_fetched(fetched, Path(spool), isolated, failures)
    return ParsedBatch(tuple(documents), tuple(failures), tuple(moved_on))


def others_answer(client: S3Client, source: S3Source, keys: Sequence[str]) -> bool:
    """Return whether the bucket hands out another object than these. If it lists no other, an answer is enough."""
    try:
        with s3_errors(source):
            listed = client.list_objects_v2(Bucket=source.bucket, Prefix=source.prefix, MaxKeys=len(keys) + 1)
            other = [one["Key"] for one in listed.get("Contents", []) if one["Key"] not in keys and one["Size"]]
            for key in other[:1]:
                client.get_object(Bucket=source.bucket, Key=key, Range="bytes=0-0")["Body"].read()
    except LockstepError:
        return False
    return True


def parse_fetched(
    fetched: Sequence[Fetched], folder: Path, isolated: Isolated, failures: list[Failure]
) -> list[Document]:
    """Return the parsed documents of fetched files. Files that cannot be parsed are added to ``failures``."""
    documents: list[Document] = []
    spool = Spool()
    into = [folder / f"{one.path.name}.elements" for one in fetched]
    handles = [
        isolated.start(parse_into, to, one.path, one.ref.key, one.content_type)
        for to, one in zip(into, fetched, strict=True)
    ]
    for to, one, handle in zip(into, fetched, handles, strict=True):
        try:
            count: int = isolated.result(handle)
        except PermanentError as error:
            failures.append(Failure(one.ref, str(error), isinstance(error, UnsuitableError)))
        else:
            with to.open("rb") as file:
                documents.append(Document(one.ref, spool.take(file, count), one.metadata))
            to.unlink()
    return documents
