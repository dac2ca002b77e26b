"""What one object may cost: it fails, or is left out, alone; a large one is written in pieces and finished by the next
sync; and what always breaks off is told from an outage."""

from __future__ import annotations

import http.client
import io
import logging
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import openpyxl
import pytest
from prefect.client.orchestration import get_client

from flows.audit import audit
from flows.sync import sync
from tasks.crash_points import listeners
from tasks.embedding import batch
from tasks.errors import LockstepError
from tasks.indexing.quarantine import contents
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.support.servers import Bucket, Server

Make = Callable[..., str]


def rows(name: str, *columns: str) -> list[dict[str, Any]]:
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    found = list(store.rows(store.live() or "", ["key", *columns]))
    store.client.close()
    return found


def sections(numbers: range, last: str = "") -> str:
    """A document with a chunk a section."""
    return "\n\n".join([*(f"# Section {n}\n\nThe text of section {n} is its own." for n in numbers), last])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PIECE", 20)
    monkeypatch.setattr("tasks.milvus.store.READ_AT_ONCE", 16)


@pytest.mark.usefixtures("small_pieces")
def test_a_document_of_many_pieces_that_dies_is_finished_and_embeds_the_rest(
    make_pipeline: Make, bucket: Bucket
) -> None:
    bucket.put("large.md", sections(range(100)))
    name = make_pipeline()
    written: list[str] = []

    def die_in_the_third(place: str) -> None:
        written.append(place)
        if written.count("some rows written") == 3:
            raise RuntimeError("died")

    listeners.append(die_in_the_third)
    try:
        with pytest.raises(RuntimeError, match="died"):
            sync(name)
    finally:
        listeners.clear()
    report = sync(name)
    assert (report.chunks_embedded, report.chunks_reused) == (40, 60)
    assert sorted(row["chunk_index"] for row in rows(name, "chunk_index")) == list(range(100))
    assert audit(name).consistent
    bucket.put("large.md", sections(range(50, 110)))
    report = sync(name)
    assert (report.chunks_embedded, report.chunks_reused, report.chunks_deleted) == (10, 50, 50)
    assert sorted(row["chunk_index"] for row in rows(name, "chunk_index")) == list(range(60))
    assert audit(name).consistent


@pytest.mark.usefixtures("small_pieces")
def test_the_last_good_version_answers_when_a_late_chunk_of_the_next_cannot_be_embedded(
    make_pipeline: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("large.md", sections(range(60)))
    name = make_pipeline()
    sync(name)
    before = sorted((row["id"], row["etag"]) for row in rows(name, "id", "etag"))
    encode = batch.EmbeddingModel.encode

    def choke(self: Any, texts: Any, prompt: str = "") -> Any:
        if any("poison" in text for text in texts):
            raise RuntimeError("index out of range in self")
        return encode(self, texts, prompt)

    monkeypatch.setattr(batch.EmbeddingModel, "encode", choke)
    bucket.put("large.md", sections(range(20, 120), last="# Last\n\nA text that is poison."))
    report = sync(name)
    assert report.quarantined == 1
    assert sorted((row["id"], row["etag"]) for row in rows(name, "id", "etag")) == before
    assert contents(name)[0]["older_version_answers"] is True
    assert audit(name).consistent


def workbook(sheet: str, cell: str) -> bytes:
    """A workbook with a name of its sheet that Excel itself would refuse."""
    book, made, changed = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    assert book.active is not None
    book.active.append(["Part", "Says"])
    book.active.append(["pump", cell])
    book.save(made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            new.writestr(member, old.read(member).replace(b'name="Sheet"', f'name="{sheet}"'.encode()))
    return changed.getvalue()


def test_names_and_characters_that_no_row_can_hold_stop_nothing(
    make_pipeline: Make, bucket: Bucket, s3_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    long = "/".join(["d" * 250] * 5) + "/" + "x" * 14 + ".txt"
    assert len(long.encode()) == 1_273
    path = Path(s3_server.argv[3]) / bucket.name / long  # a file that somebody copied there: S3 itself refuses the key
    path.parent.mkdir(parents=True)
    path.write_text("The text of an object with a long key.")
    bucket.put("sheet.xlsx", workbook("S" * 9_000, "The pump of this sheet is blue."))
    bucket.put("odd.json", '{"nul": "a valve\\u0000 and", "half": "a half \\ud800 of a pair"}')
    bucket.put("nul.txt", "A text with a NUL \x00 in its middle.")
    bucket.put("good.txt", "A text that nothing is wrong with.")
    name = make_pipeline()
    with caplog.at_level(logging.WARNING):
        report = sync(name)
    assert {row["key"] for row in rows(name)} == {"sheet.xlsx", "odd.json", "nul.txt", "good.txt"}
    assert (report.new, report.quarantined, report.left_out) == (4, 0, 1)
    assert "1,273 bytes" in report.left_out_named[0]
    assert "1 objects are left out" in caplog.text
    with get_client(sync_client=True) as client:
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

        key = ArtifactFilterKey.model_validate({"any_": [f"sync-{name}"]})
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    assert "1,273 bytes" in str(artifact.data)
    texts = "".join(row["text"] for row in rows(name, "text"))
    assert "a valve" in texts
    assert "a half ? of a pair" in texts
    assert "\x00" not in texts
    assert sync(name).left_out == 1
    found = audit(name)
    assert found.consistent
    assert found.left_out == 1


class BreaksOff:
    """Stands before the S3 server and breaks off the bytes of some keys in their middle, each time they are read."""

    def __init__(self, url: str) -> None:
        self.keys: set[str] = set()
        self.everything = False
        target, this = urlsplit(url), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=10)
                connection.request("GET", self.path, headers=dict(self.headers.items()))
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                self.send_response(answer.status)
                for header, value in answer.getheaders():
                    if header.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(header, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                key = unquote(urlsplit(self.path).path).split("/", 2)[-1]
                broken = key in this.keys or (this.everything and "." in key)
                self.wfile.write(body[: len(body) // 2] if broken else body)
                self.close_connection = broken

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def breaks_off(s3_server: Server) -> Iterator[BreaksOff]:
    made = BreaksOff(s3_server.url)
    yield made
    made.close()


def test_an_object_that_breaks_off_in_every_try_fails_alone(
    make_pipeline: Make, bucket: Bucket, breaks_off: BreaksOff
) -> None:
    for number in range(8):
        bucket.put(f"{number}.txt", f"The text of object {number}, which is read in one go.")
    name = make_pipeline(source={"endpoint_url": breaks_off.url})
    breaks_off.keys = {"3.txt"}
    report = sync(name)
    assert (report.new, report.quarantined) == (8, 1)
    assert {row["key"] for row in rows(name)} == {f"{number}.txt" for number in range(8)} - {"3.txt"}
    (row,) = contents(name)
    assert "did not hand it out in any of several tries" in row["reason"]
    breaks_off.keys = set()
    assert audit(name, sync_first=True).keys.get("quarantined", []) == ["3.txt"], "a refusal is tried again by time"

    breaks_off.everything = True
    for number in range(8):
        bucket.put(f"{number}.txt", f"Another text of object {number}, which is never read.")
    with pytest.raises(LockstepError):
        sync(name)
    assert [row["key"] for row in contents(name)] == []  # it changed meanwhile, and nothing is judged in an outage
    breaks_off.everything = False
    report = sync(name)
    assert report.quarantined == 0
    assert audit(name).consistent
    assert len(rows(name)) == 8
