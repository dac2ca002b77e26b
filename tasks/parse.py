"""Fetch and parse the objects of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prefect import task

from tasks.errors import PermanentError, UnsuitableError, WithheldError
from tasks.fetch import fetch
from tasks.isolate import Isolated
from tasks.models import Document, Element, Failure, Fetched, ObjectRef, Parsed
from tasks.parsers import parse as parse_file
from tasks.retries import RETRIED
from tasks.s3_errors import MovedOnError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from blocks.s3_source import S3Source
    from tasks.tools import Tools

DOWNLOADS_AT_ONCE = 8


def too_large(ref: ObjectRef, source: S3Source) -> Failure | None:
    """Return why an object is not even read, if it is larger than the source's limit."""
    if ref.size <= source.max_bytes:
        return None
    return Failure(
        ref, f"it has {ref.size:,} bytes, more than the limit of {source.max_bytes:,} (max_bytes)", unsuitable=True
    )


def parse_batch(refs: Sequence[ObjectRef], client: S3Client, source: S3Source, isolated: Isolated) -> Parsed:
    """Return the documents of a batch, with those that cannot be parsed and those that moved on."""
    failures = [failure for ref in refs if (failure := too_large(ref, source))]
    left_out = {failure.ref.key for failure in failures}
    documents: list[Document] = []
    moved_on: list[ObjectRef] = []

    def attempt(ref: ObjectRef) -> Fetched | None:
        try:
            return fetch(client, source, ref, Path(spool))
        except MovedOnError:
            moved_on.append(ref)
        except PermanentError as error:
            failures.append(Failure(ref, str(error), withheld=isinstance(error, WithheldError)))
        return None

    with TemporaryDirectory(prefix="lockstep-") as spool, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as downloads:
        fetched = [one for one in downloads.map(attempt, [r for r in refs if r.key not in left_out]) if one]
        handles = [isolated.start(parse_file, one.path, one.ref.key, one.content_type) for one in fetched]
        for one, handle in zip(fetched, handles, strict=True):
            try:
                elements: list[Element] = isolated.result(handle)
            except PermanentError as error:
                failures.append(Failure(one.ref, str(error), isinstance(error, UnsuitableError)))
            else:
                documents.append(Document(one.ref, tuple(elements), one.metadata))
    return Parsed(tuple(documents), tuple(failures), tuple(moved_on))


@task(task_run_name="parse batch {number}", **RETRIED)
def parse(refs: Sequence[ObjectRef], tools: Tools, number: int) -> Parsed:  # noqa: ARG001 - names the run
    """Fetch and parse a batch of objects; transient errors of the bucket are retried."""
    return parse_batch(refs, tools.s3, tools.source, tools.isolated)
