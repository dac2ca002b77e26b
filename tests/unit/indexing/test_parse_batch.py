"""Keys that look like paths lead nowhere; an object that never comes stops nothing but itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.response import StreamingBody

from blocks.s3_source import S3Source
from tasks.bucket.fetch import fetch
from tasks.errors import TransientError
from tasks.indexing.read import parse_batch
from tasks.models import ObjectRef

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


class HalfDown:
    """Stands in for a bucket whose connection breaks at some keys, in every try."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def get_object(self, Bucket: str, Key: str, **_: str) -> dict[str, Any]:
        if Key in self.broken:
            raise ConnectionClosedError(endpoint_url=f"http://{Bucket}/{Key}")
        return {"ETag": '"e1"', "Body": StreamingBody(io.BytesIO(TEXT), len(TEXT))}  # type: ignore[arg-type]

    def list_objects_v2(self, **_: object) -> dict[str, Any]:
        return {"Contents": [{"Key": key, "Size": len(TEXT)} for key in (*self.broken, "other.txt")]}


def some(*keys: str) -> list[ObjectRef]:
    return [ObjectRef(key, "e1", len(TEXT), 0) for key in keys]


@pytest.mark.parametrize("keys", [("bad.txt", "good.txt"), ("bad.txt",)])
def test_an_object_that_breaks_off_in_every_try_fails_alone(keys: tuple[str, ...]) -> None:
    """It would stop every sync otherwise; the tries before may have met a bucket that was down."""
    bucket = HalfDown("bad.txt")
    with pytest.raises(TransientError):
        parse_batch(some(*keys), bucket, S3Source(bucket="b"), AtOnce())  # type: ignore[arg-type]
    parsed = parse_batch(some(*keys), bucket, S3Source(bucket="b"), AtOnce(), last_try=True)  # type: ignore[arg-type]
    assert [one.ref.key for one in parsed.documents] == [key for key in keys if key != "bad.txt"]
    assert [one.ref.key for one in parsed.failures] == ["bad.txt"]
    assert "but hands out other objects" in parsed.failures[0].reason


def test_a_bucket_that_is_down_is_no_objects_fault() -> None:
    bucket = HalfDown("a.txt", "b.txt", "other.txt")
    with pytest.raises(TransientError):
        parse_batch(some("a.txt", "b.txt"), bucket, S3Source(bucket="b"), AtOnce(), last_try=True)  # type: ignore[arg-type]
