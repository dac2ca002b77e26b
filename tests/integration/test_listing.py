"""What does not answer like a bucket is not taken for an empty one, nor half a listing for the whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3_source import S3Source, parse_time
from tasks.bucket.listing import pages
from tasks.errors import PartError, TransientError
from tasks.limits import LeftOut

CREDENTIALS = AwsCredentials(
    aws_access_key_id="some", aws_secret_access_key=SecretStr("secret"), region_name="us-east-1"
)
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@contextmanager
def serving(answer: Callable[[dict[str, str]], tuple[int, bytes]]) -> Iterator[str]:
    """A server that answers each request with what ``answer`` makes of its query; yields its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            status, body = answer(query)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def listed(url: str, prefix: str = "") -> list[str]:
    source = S3Source(bucket="b", prefix=prefix, endpoint_url=url, credentials=CREDENTIALS)
    return [ref.key for page in pages(source.get_client(), source) for ref in page]


def xml(keys: list[str], *said: str, prefix: str = "") -> bytes:
    """A page of a listing; ``said`` are the elements that say what comes after it."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        "<Size>5</Size></Contents>"
        for key in keys
    )
    head = f"<Name>b</Name><Prefix>{prefix}</Prefix><MaxKeys>3</MaxKeys>"
    return f'<ListBucketResult xmlns="{NAMESPACE}">{head}{"".join(said)}{entries}</ListBucketResult>'.encode()


LAST = "<IsTruncated>false</IsTruncated>"
MORE = "<IsTruncated>true</IsTruncated>"
FIRST = ["a1", "a2", "a3"]


def test_times_are_read_without_trying_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's own way takes three quarters of the time of a listing."""
    read: list[str] = []

    def noting(said: str) -> Any:
        read.append(said)
        return parse_time(said)

    monkeypatch.setattr("blocks.s3_source.parse_time", noting)
    with serving(lambda _query: (200, xml(["a1"], LAST))) as url:
        assert listed(url) == ["a1"]
    assert read == ["2026-01-01T00:00:00.000Z"]


def token(value: str) -> str:
    return f"<NextContinuationToken>{value}</NextContinuationToken>"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(200, b"<html></html>", TransientError), (200, b"", TransientError), (404, b"not here", PartError)],
)
def test_a_web_page_is_refused(status: int, body: bytes, expected: type[Exception]) -> None:
    with serving(lambda _query: (status, body)) as url, pytest.raises(expected, match="AWS_ENDPOINT_URL"):
        listed(url)


def test_a_listing_of_two_pages_comes_through() -> None:
    def answer(query: dict[str, str]) -> tuple[int, bytes]:
        if query.get("continuation-token") == "2":
            return 200, xml(["a4"], LAST, "<KeyCount>1</KeyCount>")
        return 200, xml(FIRST, MORE, token("2"), "<KeyCount>3</KeyCount>")

    with serving(answer) as url:
        assert listed(url) == [*FIRST, "a4"]
        assert listed(url, "a") == [*FIRST, "a4"]


@pytest.mark.parametrize("said", [[LAST], []])
def test_a_server_that_says_less_than_it_should_is_believed_where_nothing_can_be_missing(said: list[str]) -> None:
    with serving(lambda _query: (200, xml(["a1"], *said))) as url:
        assert listed(url) == ["a1"]
    with serving(lambda _query: (200, xml([], *said))) as url:
        assert listed(url) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (xml(FIRST, MORE), "broke off"),
        (xml(FIRST, MORE, "<NextMarker>a3</NextMarker>"), "broke off.*V1"),
        (xml([], MORE), "broke off"),
        (xml(FIRST), "does not say whether the listing is complete"),
        (xml(["a1"], token("2")), "does not say whether the listing is complete"),
        (xml(["a1"], LAST, "<KeyCount>3</KeyCount>"), "announces 3 keys and has 1"),
        (xml([], LAST, "<KeyCount>2</KeyCount>"), "announces 2 keys"),
        (xml(FIRST, MORE, token("same")), "same next token|came twice|does not answer"),
        (b"<Error><Code>InternalError</Code><Message>no</Message></Error>", "InternalError|does not answer"),
        (xml(FIRST, LAST)[:-40], "answered .500."),
    ],
)
def test_a_listing_that_breaks_off_is_not_the_whole(body: bytes, said: str) -> None:
    with serving(lambda _query: (200, body)) as url, pytest.raises(TransientError, match=said):
        listed(url)


@pytest.mark.parametrize(
    "part", ["<ETag>&quot;e&quot;</ETag>", "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"]
)
def test_an_entry_that_says_too_little_is_no_reason_to_delete_it(part: str) -> None:
    named = part[1 : part.index(">")]
    body = xml(["a1"], LAST).replace(part.encode(), b"")
    with serving(lambda _query: (200, body)) as url, pytest.raises(TransientError, match=f"no {named} for 'a1'"):
        listed(url)
    folder = xml(["a/", "b"], LAST).replace(part.encode(), b"", 1)
    with serving(lambda _query: (200, folder)) as url:
        assert listed(url) == ["b"]


def test_a_size_that_is_no_number_is_no_listing() -> None:
    body = xml(["a1"], LAST).replace(b"<Size>5<", b"<Size><")
    with serving(lambda _query: (200, body)) as url, pytest.raises(TransientError, match="does not answer like"):
        listed(url)


def test_a_server_that_gives_the_same_page_again_and_again_is_left() -> None:
    asked: list[Any] = []

    def answer(query: dict[str, str]) -> tuple[int, bytes]:
        asked.append(query)
        return 200, xml(FIRST, MORE, token(str(len(asked))))

    with serving(answer) as url, pytest.raises(TransientError, match="came twice"):
        listed(url)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (xml(FIRST, LAST), "does not begin with the prefix 'guides/'"),
        (xml([], LAST, prefix="gudies/"), "for the prefix 'gudies/'"),
        (xml([], LAST), "for the prefix ''"),
    ],
)
def test_the_listing_of_another_prefix_is_refused(body: bytes, said: str) -> None:
    with serving(lambda _query: (200, body)) as url, pytest.raises(TransientError, match=said):
        listed(url, "guides/")


def test_a_prefix_of_any_letters_is_known_again() -> None:
    encoded = xml([], LAST, "<EncodingType>url</EncodingType>", prefix="a%20%C3%BC%2B/")
    with serving(lambda _query: (200, encoded)) as url:
        assert listed(url, "a ü+/") == []
    with serving(lambda _query: (200, xml([], LAST, prefix="a ü+/"))) as url:
        assert listed(url, "a ü+/") == []


def test_what_no_row_can_be_kept_of_is_left_out_and_counted() -> None:
    long, left_out = "a" * 1025, LeftOut()
    with serving(lambda _query: (200, xml([long[1:], long], LAST))) as url:
        source = S3Source(bucket="b", endpoint_url=url, credentials=CREDENTIALS)
        (page,) = pages(source.get_client(), source, left_out)
    assert [ref.key for ref in page] == [long[1:]]
    assert left_out.count == 1
    assert "1,025 bytes, more than 1,024" in left_out.first[0]


@contextmanager
def as_anybody() -> Iterator[None]:
    """Root may open every folder: be somebody else for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_opened_is_not_taken_for_deleted() -> None:
    root = Path(os.path.realpath("/tmp")) / f"lockstep-{os.getpid()}-folder"
    hidden = root / "nas" / "deep"
    hidden.mkdir(parents=True)
    for folder in (root, hidden.parent, hidden):  # whatever umask a test before has left
        folder.chmod(0o755)
    try:
        with serving(lambda _query: (200, xml(["a1"], LAST))) as url:
            source = S3Source(bucket="b", endpoint_url=url, credentials=CREDENTIALS, folder=str(root))
            client = source.get_client()
            assert [len(page) for page in pages(client, source)] == [1]
            with as_anybody():
                assert [len(page) for page in pages(client, source)] == [1]
            hidden.chmod(0o000)
            with as_anybody(), pytest.raises(TransientError, match="deep cannot be opened"):
                list(pages(client, source))
            hidden.chmod(0o700)
            root.rename(gone := root.with_name(f"{root.name}-gone"))
            with pytest.raises(TransientError, match="cannot be opened"):
                list(pages(client, source))
            gone.rename(root)
    finally:
        hidden.chmod(0o700)
        for folder in (hidden, hidden.parent, root):
            folder.rmdir()
