"""Syncs killed at random moments while the bucket changes: one clean sync later all is right and little embedded twice.

`LOCKSTEP_KILLS=20 LOCKSTEP_CORPUS=FOLDER python -m pytest -s tests/faults/test_kills.py` does it with others.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flows.audit import audit
from flows.sync import sync
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tests.faults.conftest import Victim
from tests.support.servers import ROOT, Bucket

KILLS = int(os.environ.get("LOCKSTEP_KILLS", "3"))
CORPUS = Path(os.environ.get("LOCKSTEP_CORPUS", ROOT / "docs"))
LONGEST_SECONDS = float(os.environ.get("LOCKSTEP_KILL_WITHIN", "12"))
BATCH = 16


def change(bucket: Bucket, files: dict[str, bytes], chance: random.Random, turn: int) -> None:
    """Change, rename and delete some objects."""
    for key in chance.sample(sorted(files), k=min(3, len(files) // 4)):
        files[key] += f"\n\nA paragraph that was added in turn {turn} to this very file.\n".encode()
        bucket.put(key, files[key])
    old, gone = chance.sample(sorted(files), k=2)
    files[f"renamed-{turn}/{Path(old).name}"] = files[old]
    bucket.put(f"renamed-{turn}/{Path(old).name}", files[old])
    for key in (old, gone):
        bucket.delete(key)
        del files[key]


def taken(notes: Path) -> list[list[str]]:
    """The batches that were embedded since the last time, as hashes of texts."""
    if not notes.exists():
        return []
    batches = [line.split() for line in notes.read_text().splitlines()]
    notes.unlink()
    return batches


def hashes_in_milvus(name: str) -> set[str]:
    block = load_pipeline(name)
    store = Store(block.store, block.alias)
    with closing(store.client):
        collection = f"{block.alias}_g0001"  # it answers from the end of its first sync on, and holds rows before
        there = store.exists(collection)
        return {row["text_hash"] for row in store.rows(collection, ["text_hash"])} if there else set()


@pytest.mark.long  # test_crash_points kills at every place where something is half done; here it is at random
@pytest.mark.timeout(3600)
def test_killed_at_random_moments(
    make_pipeline: Callable[..., str], bucket: Bucket, victim: Victim, tmp_path: Path
) -> None:
    chance = random.Random(7)
    suffixes = {".md", ".txt", ".csv"}
    files = {
        str(path.relative_to(CORPUS)): path.read_bytes()
        for path in sorted(CORPUS.rglob("*"))
        if path.is_file() and path.suffix in suffixes
    }
    for key, body in files.items():
        bucket.put(key, body)
    name, notes = make_pipeline(batch_objects=BATCH), tmp_path / "notes"
    killed = lost = 0
    embedded: Counter[str] = Counter()
    for turn in range(KILLS):
        seconds = chance.uniform(0.5, LONGEST_SECONDS)
        killed += victim.sync(name, seconds=seconds, notes=str(notes)) == -signal.SIGKILL
        batches = taken(notes)
        written = hashes_in_milvus(name)
        unwritten = [text for batch in batches for text in batch if text not in written]
        # What a killed run embedded in vain is the batch in flight, or a part of it.
        assert len(unwritten) <= max(map(len, batches), default=0)
        lost += len(unwritten)
        embedded.update(text for batch in batches for text in batch)
        change(bucket, files, chance, turn)
    assert killed >= 1
    assert victim.sync(name, notes=str(notes)) == 0
    embedded.update(text for batch in taken(notes) for text in batch)
    found = audit(name)
    assert found.consistent
    assert found.objects == len(files)
    again = sum(count - 1 for count in embedded.values())
    sys.stdout.write(
        f"{killed} of {KILLS} syncs killed; {found.objects} objects, {found.chunks} chunks; "
        f"{embedded.total()} texts embedded, {lost} in vain by killed runs, {again} of them again\n"
    )
    assert sync(name).chunks_embedded == 0
