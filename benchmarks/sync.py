"""Measure a sync against what bounds it, in one run.

    python -m benchmarks.sync [FOLDER]        default: the project's own docs

Starts a stack of its own in a temporary home, puts FOLDER into its bucket, and prints: the cold sync as a ratio
to the raw encode of the same chunks (same model, same dtype, one call over all of them, longest first), the
unchanged sync beside the bare listing, and the peak memory of the syncing process and its parsers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.own_stack import ROOT, own_stack

SYNC = """
import json
from deployments import environment
from deployments.cli.session import open_session
session = open_session(environment.load(), saves=True)
from dataclasses import asdict
from flows.sync import sync
print(json.dumps(asdict(sync(session.pipeline))))
"""


def run_python(code: str) -> dict:
    """Run code in a process of its own, as a scheduled run would, and return the JSON it prints.

    ``peak_mb`` is added: the most resident memory of the process and those it started, sampled every 0.2 s.
    """
    peak = 0
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                tree = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in tree))
            time.sleep(0.2)
        lines = process.stdout.read().splitlines()
    return {**json.loads(lines[-1]), "peak_mb": peak / 2**20}


def raw_encode() -> tuple[int, float, float]:
    """Parse and chunk everything that the bucket holds; return chunks, seconds of that, seconds to encode them."""
    from deployments import environment
    from deployments.cli.session import open_session

    session = open_session(environment.load(), saves=True)
    from tasks.bucket.listing import pages
    from tasks.documents.chunk import cut_document
    from tasks.indexing.read import parse_batch
    from tasks.pipelines import load_pipeline
    from tasks.resources import Resources

    block = load_pipeline(session.pipeline)
    with Resources(block, block.settings) as resources:
        resources.model.encode(["warm up"])
        refs = [ref for page in pages(resources.s3, resources.source) for ref in page]
        began = time.monotonic()
        parsed = parse_batch(refs, resources.s3, resources.source, resources.isolated)
        cut = [cut_document(document, resources.settings, resources.measure) for document in parsed.documents]
        prepared = time.monotonic() - began
        texts = list({chunk.text_hash: chunk.embedded for one in cut for chunk in one.chunks}.values())
        began = time.monotonic()
        resources.model.encode(texts)
        return len(texts), prepared, time.monotonic() - began


def bare_listing() -> float:
    """Return the seconds it takes to list the bucket and nothing else."""
    from deployments import environment
    from deployments.cli.session import open_session
    from tasks.bucket.listing import pages

    session = open_session(environment.load(), saves=True)
    from tasks.pipelines import load_pipeline

    source = load_pipeline(session.pipeline).source
    client = source.get_client()
    began = time.monotonic()
    for _ in pages(client, source):
        pass
    return time.monotonic() - began


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    with own_stack(folder):
        cold = run_python(SYNC)
        same = run_python(SYNC)
        chunks, prepared, encoding = raw_encode()
        listing = bare_listing()
    print(f"\n{folder}: {cold['new']} objects, {chunks} chunks embedded, {cold['quarantined']} in quarantine")
    print(f"cold sync            {cold['seconds']:8.1f} s   {cold['chunks_embedded'] / cold['seconds']:.0f} chunks/s")
    print(f"raw encode           {encoding:8.1f} s   {chunks / encoding:.0f} chunks/s")
    print(f"parse and chunk      {prepared:8.1f} s")
    print(f"raw encode / cold    {encoding / cold['seconds']:8.2f}")
    print(f"unchanged sync       {same['seconds']:8.2f} s   {same['chunks_embedded']} chunks embedded")
    print(f"bare listing         {listing:8.2f} s")
    print(f"peak memory          {cold['peak_mb']:8.0f} MB, the syncing process and its parsers together")


if __name__ == "__main__":
    main()
