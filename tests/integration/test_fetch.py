"""The bytes of an object are those of the version that was listed, whole, or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect_aws import AwsCredentials

from blocks.s3_source import S3Source
from tasks.bucket.errors import MovedOnError
from tasks.bucket.fetch import fetch
from tasks.bucket.listing import pages
from tasks.errors import WithheldError
from tasks.models import ObjectRef
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server


def source_of(bucket: str, url: str) -> S3Source:
    credentials = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1"
    )
    return S3Source(bucket=bucket, endpoint_url=url, credentials=credentials)


@pytest.fixture
def source(s3_server: Server, bucket: Bucket) -> S3Source:
    return source_of(bucket.name, s3_server.url)


@pytest.fixture
def careless() -> Iterator[S3Source]:
    """A server that answers with what it has, whatever version was asked for."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("ETag", '"e2"')
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"newer")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield source_of("b", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def listed(source: S3Source) -> ObjectRef:
    ((ref,),) = pages(source.get_client(), source)
    return ref


def test_the_version_that_was_listed_is_read(source: S3Source, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a b/ü#%.txt", "first", Metadata={"Team": "infra"})
    ref = listed(source)
    found = fetch(source.get_client(), source, ref, tmp_path)
    assert (found.path.read_bytes(), found.ref) == (b"first", ref)
    assert found.metadata == {"team": "infra"}


def test_another_version_or_none_is_not_read(source: S3Source, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.txt", "first")
    ref = listed(source)
    bucket.put("a.txt", "other")
    with pytest.raises(MovedOnError):
        fetch(source.get_client(), source, ref, tmp_path)
    bucket.delete("a.txt")
    with pytest.raises(MovedOnError):
        fetch(source.get_client(), source, ref, tmp_path)


def test_what_broke_off_is_not_taken_for_the_object(source: S3Source, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.txt", "first")
    with pytest.raises(WithheldError, match="lists 6 bytes for this version, but hands out 5"):
        fetch(source.get_client(), source, replace(listed(source), size=6), tmp_path)


def test_a_server_that_does_not_look_at_the_version_is_not_believed(careless: S3Source, tmp_path: Path) -> None:
    ref = ObjectRef("a.txt", "e2", 5, 0)
    assert fetch(careless.get_client(), careless, ref, tmp_path).path.read_bytes() == b"newer"
    with pytest.raises(MovedOnError, match="changed while it was being read"):
        fetch(careless.get_client(), careless, replace(ref, etag="e1"), tmp_path)
