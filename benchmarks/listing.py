"""List a large bucket and compare it with the ledger: what does the comparison cost beside the listing?

    python -m benchmarks.listing [--keys 1000000] [--ranges 4] [--latency-ms 0] [--ledger URL] [--json]

Starts an S3 server of its own, in a process of its own, that answers ListObjectsV2 from memory, and fills a ledger
(SQLite in a temporary folder, or the given empty database) with all the keys. Then it measures, each in a process of
its own: the listing alone, by one range and by several at once, and a plan of the same bucket, of the same bucket by
ranges, and of one with 1,000 objects changed and 500 gone. ``--latency-ms`` is the time that the server takes for each
page of 1,000 keys: one on this machine takes none, and S3 some 100 ms.

Printed are seconds, those of them in which the plan waited for the listing, and the rest, which is the comparison; and
their ratio. With ranges both go on at once, so the rest says nothing there. The memory is the most that the process had
(resident, as the system counts it), and that after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.own_stack import ROOT

COLLECTION = "bench_listing_g0001"
PAGE = 1000
CHANGED, GONE = 1000, 500
CONTENTS = (
    "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;%032x&quot;</ETag>"
    "<Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
STEPS = {
    "listing": "listing alone",
    "ranges": "listing, {ranges} ranges at once",
    "same": "plan of an unchanged bucket",
    "same ranges": "plan of an unchanged bucket, {ranges} ranges",
    "changed": "plan of {changed:,} changed and {gone:,} gone",
}


def key_of(number: int) -> str:
    return f"handbook/department-{number // PAGE:05}/document-{number:08}.md"


def changed(number: int, keys: int) -> bool:
    return number % (keys // CHANGED) == 1


def gone(number: int, keys: int) -> bool:
    return number % (keys // GONE) == 0


class Bucket:
    """The objects of one bucket: keys in the order of S3, and a version of each."""

    def __init__(self, keys: int, edited: bool) -> None:
        numbers = [number for number in range(keys) if not (edited and gone(number, keys))]
        self.keys = [key_of(number) for number in numbers]
        self.etags = [number + keys * (edited and changed(number, keys)) for number in numbers]

    def page(self, name: str, query: dict[str, str]) -> bytes:
        """Return the page that a request asks for, as XML."""
        first = bisect_right(self.keys, query.get("continuation-token") or query.get("start-after", ""))
        end = min(first + PAGE, len(self.keys))
        entries = [CONTENTS % pair for pair in zip(self.keys[first:end], self.etags[first:end], strict=True)]
        more = f"<NextContinuationToken>{self.keys[end - 1]}</NextContinuationToken>" if end < len(self.keys) else ""
        head = f"<Name>{name}</Name><Prefix></Prefix><MaxKeys>{PAGE}</MaxKeys><KeyCount>{len(entries)}</KeyCount>"
        said = f"{head}<EncodingType>url</EncodingType><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}"
        body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{said}{"".join(entries)}'
        return f"{body}</ListBucketResult>".encode()


def serve(keys: int, latency: float) -> None:
    """Serve the buckets ``same`` and ``changed``, and print the address."""
    buckets = {"same": Bucket(keys, False), "changed": Bucket(keys, True)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            name = asked.path.strip("/")
            time.sleep(latency)
            body = buckets[name].page(name, {name: values[0] for name, values in parse_qs(asked.query).items()})
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def ledger_at(url: str) -> Any:
    """Open the ledger's database."""
    from pydantic import SecretStr

    from blocks.ledger import Ledger
    from tasks.ledger.database import Database

    return Database(Ledger(url=SecretStr(url), timeout_seconds=300.0))


def fill(url: str, keys: int) -> None:
    """Record all objects of the unchanged bucket as indexed."""
    import sqlalchemy as sa

    from tasks.ledger import tables

    same = {"collection": COLLECTION, "state": "indexed", "size": 4096, "last_modified": 1, "chunks": 1}
    same |= {"digest": "0" * 16, "attempts": 0, "updated_at": 1, "flow_run_id": "bench"}
    with ledger_at(url) as ledger, ledger.transaction() as connection:
        for start in range(0, keys, 10_000):
            some = ((key_of(number), f"{number:032x}") for number in range(start, min(start + 10_000, keys)))
            connection.execute(
                sa.insert(tables.OBJECTS),
                [{**same, "key": key, "etag": etag, "indexed_etag": etag} for key, etag in some],
            )


def empty(url: str) -> None:
    """Remove the rows, and undo what plans recorded."""
    from tasks.ledger.generations import forget_generation

    with ledger_at(url) as ledger:
        forget_generation(ledger, COLLECTION)


class Stopwatch:
    """Seconds that the reader of a listing waited for its pages."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, pages: Iterable[Any]) -> Iterator[Any]:
        """Yield the pages, and add up the time until each is there."""
        began = time.monotonic()
        for page in pages:
            self.seconds += time.monotonic() - began
            yield page
            began = time.monotonic()
        self.seconds += time.monotonic() - began


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step: str, s3: str, url: str, ranges: int) -> dict[str, Any]:
    """Do one step in this process. Return its seconds and memory."""
    from prefect_aws import AwsCredentials
    from pydantic import SecretStr

    from blocks.s3_source import S3Source
    from tasks.bucket.listing import pages
    from tasks.indexing.plan import RANGE_KEYS, make_plan
    from tasks.ledger.objects import every_nth_key

    keys = AwsCredentials(aws_access_key_id="bench", aws_secret_access_key=SecretStr("secret"), region_name="us-east-1")
    source = S3Source(bucket="changed" if step == "changed" else "same", endpoint_url=s3, credentials=keys)
    client, waited = source.get_client(), Stopwatch()
    with ledger_at(url) as ledger:
        imports, began = peak_mb(), time.monotonic()
        cuts = every_nth_key(ledger, COLLECTION, RANGE_KEYS) if "ranges" in step else []
        listing = waited.timed(pages(client, source, None, cuts, ranges))
        if step in ("listing", "ranges"):
            counted = f"{sum(map(len, listing)):,} objects"
        else:
            plan = make_plan(listing, ledger, COLLECTION, "bench")
            counted = f"{plan}, {plan.unchanged:,} unchanged"
        seconds = time.monotonic() - began
    compared = None if "ranges" in step else seconds - waited.seconds
    return {
        "seconds": round(seconds, 1),
        "listing": round(waited.seconds, 1),
        "comparison": compared and round(compared, 1),
        "share": compared and round(compared / waited.seconds, 2),
        "peak_mb": round(peak_mb()),
        "imports_mb": round(imports),
        "counted": counted,
    }


def run(*arguments: str) -> dict[str, Any]:
    """Do one step in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.listing", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--ranges", type=int, default=4)
    options.add_argument("--latency-ms", type=float, default=0.0)
    options.add_argument("--ledger", default="")
    options.add_argument("--json", action="store_true")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(given.keys, given.latency_ms / 1000)
        return
    if given.step:
        print(json.dumps(measure(*given.step, given.ranges)))
        return
    same = ("--keys", str(given.keys), "--ranges", str(given.ranges), "--latency-ms", str(given.latency_ms))
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        url = given.ledger or f"sqlite:///{Path(folder) / 'ledger.db'}"
        command = [sys.executable, "-m", "benchmarks.listing", "--serve", *same]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                fill(url, given.keys)
                assert server.stdout
                s3 = server.stdout.readline().strip()
                found = {step: run("--step", step, s3, url, *same) for step in STEPS}
            finally:
                server.terminate()
                empty(url)
    show(found, given)


def show(found: dict[str, dict[str, Any]], given: argparse.Namespace) -> None:
    """Print the table, or JSON."""
    if given.json:
        print(json.dumps({"keys": given.keys, "ranges": given.ranges, "latency_ms": given.latency_ms, "steps": found}))
        return
    import pandas as pd

    names = {step: name.format(ranges=given.ranges, changed=CHANGED, gone=GONE) for step, name in STEPS.items()}
    print(f"\n{given.keys:,} keys, {given.latency_ms:g} ms a page")
    print(pd.DataFrame.from_dict(found, orient="index").rename(index=names).to_string(na_rep="-"))


if __name__ == "__main__":
    main()
