"""Measure what one large file costs the syncing process.

    python -m benchmarks.one_big_file [MB ...]                      default: 5 10
    python -m benchmarks.one_big_file --without-milvus 50           nothing is written, which takes hours otherwise

Starts a stack of its own in a temporary home, without a worker. For each size it syncs one JSON file without a line
end, then one CSV file, each into an index of its own, and prints chunks, the most memory that the syncing process had
(resident, as the system counts it; parsers have their own, with a limit), and the seconds of parsing, cutting and the
rest, which is writing above all.

The vectors are random, for a model on two cores would take hours; tokens are counted by the real tokenizer, and all
else is a real sync.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.own_stack import ROOT, own_stack

WITHOUT_MILVUS = "BENCH_WITHOUT_MILVUS"
PARTS = ("pump", "valve", "filter", "motor", "sensor", "gauge")
WORDS = [f"{part}{end}{number}" for part in PARTS for end in ("", "-x", "ing", "s") for number in ("", "1", "77")]


def records() -> Iterator[dict[str, Any]]:
    """Yield records without end, the same ones in every run."""
    chance = random.Random(20_26)
    for number in itertools.count():
        said = [" ".join(chance.choices(WORDS, k=count)) for count in (4, 20)]
        yield {"id": number, "name": said[0], "text": f"{said[1].capitalize()}.", "value": round(chance.random(), 6)}


def write(path: Path, mb: float) -> None:
    """Write a file of that size: a JSON list in one line, or a CSV file."""
    csv = path.suffix == ".csv"
    with path.open("w") as file:
        file.write("id,name,text,value" if csv else "[0")
        for record in records():
            file.write("\n" + ",".join(map(str, record.values())) if csv else ", " + json.dumps(record))
            if file.tell() >= mb * 1e6:
                break
        file.write("\n" if csv else "]")


def timed(seconds: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with the time that it takes added to ``seconds``."""

    def call(*given: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*given, **named)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began

    return call


def sync_here() -> None:
    """Sync in this process with random vectors, and print what came of it as JSON."""
    import numpy as np

    from deployments import environment
    from deployments.cli.session import open_session

    session = open_session(environment.load(), saves=True)
    from flows.sync import sync
    from tasks.embedding.model import EmbeddingModel
    from tasks.indexing import read, steps

    def encode(self: Any, texts: Any, _prompt: str = "") -> Any:
        found = np.random.default_rng(len(texts)).normal(size=(len(texts), self.dimension)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    EmbeddingModel.encode = encode  # type: ignore[method-assign]
    seconds: dict[str, float] = {}
    read.parse_fetched = timed(seconds, "parse", read.parse_fetched)
    steps.cut_document = timed(seconds, "cut", steps.cut_document)
    if WITHOUT_MILVUS in os.environ:
        from tasks.milvus.store import Store

        Store.known_vectors = lambda *_: {}  # type: ignore[method-assign]
        Store.upsert = lambda _self, _collection, rows: sum(1 for _ in rows)  # type: ignore[method-assign]
        Store.prune = lambda *_, **__: 0  # type: ignore[method-assign]
    report = sync(session.pipeline)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"chunks": report.chunks_embedded + report.chunks_reused, "quarantined": report.quarantined}
    print(json.dumps({**found, **seconds, "all": report.seconds, "own": own}))


def main() -> None:
    """Print a row for each size and format."""
    from deployments.local import stack

    sizes = [float(size) for size in sys.argv[1:] if not size.startswith("--")] or [5.0, 10.0]
    if "--without-milvus" in sys.argv:
        os.environ[WITHOUT_MILVUS] = "yes"
    stack.WAVES = stack.WAVES[:1]  # no worker: its sync every five minutes is not what is measured
    with tempfile.TemporaryDirectory(prefix="lockstep-empty-") as empty, own_stack(Path(empty)) as (_, home):
        print(f"{'file':8}{'MB':>5}{'chunks':>9}{'peak MB':>9}{'parse s':>9}{'cut s':>8}{'rest s':>8}")
        for number, (mb, kind) in enumerate(itertools.product(sizes, ("json", "csv"))):
            bucket = home / "s3" / f"bench-{number}"
            bucket.mkdir()
            write(bucket / f"big.{kind}", mb)
            env = {**os.environ, "BUCKET": bucket.name, "COLLECTION_NAME": f"bench{number}"}
            code = "from benchmarks.one_big_file import sync_here; sync_here()"
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True)
            got = json.loads(done.stdout.splitlines()[-1])
            rest = got["all"] - got.get("parse", 0) - got.get("cut", 0)
            print(
                f"{kind:8}{mb:5g}{got['chunks']:9,}{got['own']:9,.0f}"
                f"{got.get('parse', 0):9.1f}{got.get('cut', 0):8.1f}{rest:8.1f}"
                + ("   (in quarantine)" if got["quarantined"] else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
