"""Keys that look like paths lead nowhere: where an object is spooled does not follow from its key."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from blocks.s3_source import S3Source
from tasks.fetch import fetch
from tasks.models import ObjectRef
from tasks.parse import parse_batch

TEXT = b"A key that looks like a path is only a key."
KEYS = ["../x.txt", "/etc/passwd", "a/../../../b.txt", "~/c.txt", "..", "a//b.txt"]


class Answers:
    """Stands in for S3: the server of the other tests refuses such keys."""

    def get_object(self, Bucket: str, Key: str, IfMatch: str) -> dict[str, Any]:
        assert (Bucket, IfMatch) == ("b", '"e1"')
        assert Key in KEYS
        return {"ETag": '"e1"', "Body": StreamingBody(io.BytesIO(TEXT), len(TEXT))}  # type: ignore[arg-type]


class AtOnce:
    """Parses in this process."""

    def start(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def result(self, handle: Any) -> Any:
        return handle


@pytest.mark.parametrize("key", KEYS)
def test_an_object_stays_in_the_spool(tmp_path: Path, key: str) -> None:
    spool = tmp_path / "deep" / "spool"
    spool.mkdir(parents=True)
    fetched = fetch(Answers(), S3Source(bucket="b"), ObjectRef(key, "e1", len(TEXT), 0), spool)  # type: ignore[arg-type]
    assert fetched.path.parent == spool
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [fetched.path]


def test_such_keys_are_indexed_under_their_names() -> None:
    refs = [ObjectRef(key, "e1", len(TEXT), 0) for key in KEYS]
    parsed = parse_batch(refs, Answers(), S3Source(bucket="b"), AtOnce())  # type: ignore[arg-type]
    assert [document.ref.key for document in parsed.documents] == KEYS
    assert not parsed.failures
