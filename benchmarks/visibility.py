"""How soon a search sees a write, and what seeing it costs, by consistency.

    python -m benchmarks.visibility [--milvus URI] [--writes 20]

Without --milvus it starts the real Milvus 2.3.5 (`make milvus-server`). Bounded is what a search gets that asks for
nothing, strong waits for Milvus' clock, and `the write` names the time that Milvus gave the last write.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clients import of_sorted
from blocks.milvus_store import MilvusStore
from tasks.milvus.consistency import last_write, seeing

DIMENSION = 8
SETTLED = 20
"""Searches after the last write, whose mean is the cost of a search that has nothing to wait for."""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--milvus", default="")
    options.add_argument("--writes", type=int, default=20)
    given = options.parse_args()
    with server(given.milvus) as uri:
        lines = [
            "| consistency | until seen, p50, ms | slowest, ms | a search afterwards, ms |",
            "| --- | --- | --- | --- |",
        ]
        for name in ("bounded", "strong", "the write"):
            seen, cost = measure(uri, name, given.writes)
            lines.append(f"| {name} | {of_sorted(seen, 0.5):.0f} | {seen[-1]:.0f} | {cost:.1f} |")
        sys.stdout.write("\n".join(lines) + "\n")


@contextmanager
def server(uri: str) -> Iterator[str]:
    """Give the address of a server: the given one, or one that is started for this."""
    if uri:
        yield uri
        return
    from tests.support.servers import milvus_2_3_server

    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        started = milvus_2_3_server(Path(folder)).start()
        try:
            yield started.url
        finally:
            started.stop()


def measure(uri: str, consistency: str, writes: int) -> tuple[list[float], float]:
    """Return the ms from the end of each write until another client's search sees it, in order, and the cost."""
    block, name = MilvusStore(uri=uri), f"v{uuid.uuid4().hex[:10]}"
    writer, reader = block.get_client(), block.get_client()
    schema = writer.create_schema()
    schema.add_field("id", 21, max_length=64, is_primary=True)
    schema.add_field("embedding", 101, dim=DIMENSION)
    index = writer.prepare_index_params()
    index.add_index("embedding", index_type="HNSW", metric_type="COSINE", params={"M": 8, "efConstruction": 64})
    writer.create_collection(name, schema=schema, index_params=index, consistency_level="Bounded")
    rng, seen = np.random.default_rng(1), []
    vector = rng.normal(size=DIMENSION).astype(np.float32)

    def search() -> list[str]:
        options: dict[str, Any] = {"consistency_level": "Strong"} if consistency == "strong" else {}
        if consistency == "the write":
            options = seeing(last_write(writer, name))
        rows = reader.search(
            name, [vector], anns_field="embedding", limit=1, search_params={"params": {"ef": 64}}, **options
        )
        return [row["id"] for row in rows[0]]

    for number in range(writes):
        vector = rng.normal(size=DIMENSION).astype(np.float32)
        writer.upsert(name, [{"id": str(number), "embedding": vector}])
        began = time.perf_counter()
        while search() != [str(number)]:
            time.sleep(0.005)
        seen.append(1000 * (time.perf_counter() - began))
    time.sleep(1)
    began = time.perf_counter()
    for _ in range(SETTLED):
        search()
    cost = 1000 * (time.perf_counter() - began) / SETTLED
    writer.drop_collection(name)
    return sorted(seen), cost


if __name__ == "__main__":
    main()
