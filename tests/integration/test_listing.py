"""What does not answer like a bucket is not taken for an empty one."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect_aws import AwsCredentials

from blocks.s3_source import S3Source
from tasks.errors import PartError, TransientError
from tasks.listing import pages


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(200, b"<html></html>", TransientError), (200, b"", TransientError), (404, b"not here", PartError)],
)
def test_a_web_page_is_refused(status: int, body: bytes, expected: type[Exception]) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    credentials = AwsCredentials(aws_access_key_id="some", aws_secret_access_key="secret", region_name="us-east-1")
    source = S3Source(bucket="b", endpoint_url=f"http://127.0.0.1:{server.server_port}", credentials=credentials)
    try:
        with pytest.raises(expected, match="AWS_ENDPOINT_URL"):
            list(pages(source.get_client(), source))
    finally:
        server.shutdown()
        server.server_close()
