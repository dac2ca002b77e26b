"""The version that is listed is the one that is read, whatever ETags a server gives and however many bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3_source import S3Source
from tasks.bucket.errors import MovedOnError
from tasks.bucket.fetch import fetch
from tasks.bucket.listing import etag_of, to_ref
from tasks.errors import WithheldError
from tasks.models import ObjectRef

BODY = b"hello"


class Answering(BaseHTTPRequestHandler):
    """Answers with the ETag that the key names, and keeps to RFC 9110: a weak one never matches If-Match."""

    def do_GET(self) -> None:
        said = {"strong": '"e"', "weak": 'W/"e"', "other": 'W/"another"', "none": '""'}[
            self.path.rsplit("/", 1)[1].split("?")[0]
        ]
        asked = self.headers.get("If-Match")
        refused = asked is not None and (asked != said or said.startswith("W/"))
        self.send_response(412 if refused else 200)
        self.send_header("ETag", said)
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(0 if refused else len(BODY)))
        self.end_headers()
        self.wfile.write(b"" if refused else BODY)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def source() -> Iterator[S3Source]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    keys = AwsCredentials(aws_access_key_id="a", aws_secret_access_key=SecretStr("b"), region_name="us-east-1")
    yield S3Source(bucket="b", endpoint_url=f"http://127.0.0.1:{server.server_port}", credentials=keys)
    server.shutdown()
    thread.join()
    server.server_close()


def read(source: S3Source, key: str, listed: str, spool: Path, size: int = len(BODY)) -> bytes:
    return fetch(source.get_client(), source, ObjectRef(key, etag_of(listed), size, 0), spool).path.read_bytes()


@pytest.mark.parametrize(("key", "listed"), [("strong", '"e"'), ("strong", "e"), ("weak", 'W/"e"')])
def test_the_listed_version_is_read(source: S3Source, tmp_path: Path, key: str, listed: str) -> None:
    assert read(source, key, listed, tmp_path) == BODY


@pytest.mark.parametrize(("key", "listed"), [("strong", '"e1"'), ("other", 'W/"e"'), ("strong", 'W/"e1"')])
def test_another_version_is_not(source: S3Source, tmp_path: Path, key: str, listed: str) -> None:
    with pytest.raises(MovedOnError):
        read(source, key, listed, tmp_path)


def test_where_there_are_no_etags_the_time_of_writing_tells_versions(source: S3Source, tmp_path: Path) -> None:
    """As rclone over a crypt remote, whose ETags are all empty."""

    def listed(second: int, fraction: int) -> ObjectRef:
        at = datetime(2026, 1, 1, second=second, microsecond=fraction, tzinfo=UTC)
        return to_ref({"Key": "none", "ETag": '""', "Size": len(BODY), "LastModified": at})

    assert fetch(source.get_client(), source, listed(0, 250_000), tmp_path).path.read_bytes() == BODY
    with pytest.raises(MovedOnError):
        fetch(source.get_client(), source, listed(1, 0), tmp_path)


def test_other_bytes_than_are_listed_are_not_the_object_and_no_outage(source: S3Source, tmp_path: Path) -> None:
    with pytest.raises(WithheldError, match="lists 1,234 bytes for this version, but hands out 5"):
        read(source, "strong", '"e"', tmp_path, size=1234)
