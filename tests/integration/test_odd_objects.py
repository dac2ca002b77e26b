"""What a server says of one object that is not as others are: its own fault, or nobody's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3_source import S3Source
from tasks.bucket.errors import MovedOnError
from tasks.bucket.fetch import fetch
from tasks.errors import PermanentError
from tasks.models import ObjectRef

BODY = b"hello"


class Odd(BaseHTTPRequestHandler):
    """Answers each GET by the object's key."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rsplit("/", 1)[1]
        if name == "weak" and "If-Match" in self.headers:
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", 'W/"e"' if name == "weak" else '"e"')
        self.send_header("Content-Length", str(len(BODY)))
        for number in range(120 if name == "many" else 0):
            self.send_header(f"x-amz-meta-k{number}", "v")
        if name == "wide":
            self.send_header("x-amz-meta-wide", "v" * 70_000)
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served() -> Iterator[S3Source]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    credentials = AwsCredentials(
        aws_access_key_id="access", aws_secret_access_key=SecretStr("secret"), region_name="us-east-1"
    )
    try:
        yield S3Source(bucket="bucket", endpoint_url=f"http://127.0.0.1:{server.server_port}", credentials=credentials)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("key", "words"), [("many", "more than 100 headers"), ("wide", "more than 65536 bytes")])
def test_more_metadata_than_is_read_is_the_objects_own_fault(tmp_path: Path, key: str, words: str) -> None:
    with served() as source, pytest.raises(PermanentError, match=words):
        fetch(source.get_client(), source, ObjectRef(key, "e", len(BODY), 0), tmp_path)


def test_an_object_with_a_weak_etag_is_read(tmp_path: Path) -> None:
    with served() as source:
        found = fetch(source.get_client(), source, ObjectRef("weak", "e", len(BODY), 0), tmp_path)
        assert found.path.read_bytes() == BODY
        with pytest.raises(MovedOnError):
            fetch(source.get_client(), source, ObjectRef("weak", "older", len(BODY), 0), tmp_path)
