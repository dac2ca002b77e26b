"""How many chunks does an edit change? Ranked cuts against packing from the start, in one run.

The cuts are those of tasks/documents/cut_points.py.

    python -m benchmarks.edits [FOLDER] [EDITS]        default: the project's own docs, 1000 edits

Each edit changes one random paragraph of a random file: a sentence added before or after, a word replaced, or a
new paragraph put in. Half of the files are taken without their headings, as plain text would be.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

from transformers import AutoTokenizer

from blocks.embedder import Embedder
from blocks.settings import Settings
from tasks.documents.chunk import Measure, capacity_of, cut_document
from tasks.documents.cut_points import cut
from tasks.documents.parse import parse
from tasks.embedding.tokenizer import counter_for
from tasks.errors import PermanentError
from tasks.models import Document, Element, ObjectRef

WINDOW = 256
ADDED = "This sentence was added by an editor who wanted to say a little more about it."
Cut = Callable[[Sequence[int], Sequence[int], int], Iterator[tuple[int, int]]]


def packed(costs: Sequence[int], _ranked: Sequence[int], capacity: int) -> Iterator[tuple[int, int]]:
    """Fill each chunk from where the last one ended."""
    start = total = 0
    for position, cost in enumerate(costs):
        if position > start and total + cost > capacity:
            yield start, position
            start, total = position, 0
        total += cost
    if costs:
        yield start, len(costs)


def edited(elements: Sequence[Element], dice: random.Random) -> list[Element]:
    """Return the elements with one paragraph changed."""
    changed = list(elements)
    at = dice.randrange(len(changed))
    one = changed[at]
    kind = dice.randrange(4)
    if kind == 0:
        changed.insert(at, Element(f"{ADDED} {ADDED}", one.headings, one.page))
        return changed
    words = one.text.split(" ")
    words[len(words) // 2] = "replaced"
    text = {1: f"{one.text} {ADDED}", 2: f"{ADDED} {one.text}", 3: " ".join(words)}[kind]
    changed[at] = Element(text, one.headings, one.page)
    return changed


def measure_edits(documents: list[list[Element]], edits: int, cut_with: Cut) -> tuple[int, list[int]]:
    """Return the number of chunks of all documents, and how many chunks each edit added."""
    embedder = Embedder()
    counter = counter_for(AutoTokenizer.from_pretrained(embedder.location()), WINDOW, embedder.model_name)
    measure = Measure(counter, capacity_of(Settings(), counter))

    def chunks(elements: list[Element]) -> Counter[str]:
        document = Document(ObjectRef("key", "etag", 1, 1), tuple(elements))
        return Counter(chunk.text_hash for chunk in cut_document(document, Settings(), measure).chunks)

    dice = random.Random(7)
    with mock.patch("tasks.documents.chunk.cut", cut_with):
        before = [chunks(document) for document in documents]
        changed = []
        for _ in range(edits):
            at = dice.randrange(len(documents))
            changed.append(sum((chunks(edited(documents[at], dice)) - before[at]).values()))
    return sum(sum(one.values()) for one in before), changed


def read(folder: Path) -> list[list[Element]]:
    """Return the elements of every file that can be parsed, each second file without its headings."""
    documents = []
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        try:
            elements = parse(path, path.name)
        except PermanentError:
            continue
        documents.append([Element(one.text, (), one.page) for one in elements] if number % 2 else elements)
    return documents


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs")
    edits = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    documents = read(folder)
    print(f"{folder}: {len(documents)} documents, {edits} edits of one paragraph each")
    print(f"{'':8}{'chunks':>8}{'mean changed':>14}{'over 3':>9}{'worst':>7}")
    for name, cut_with in (("packed", packed), ("ranked", cut)):
        chunks, changed = measure_edits(documents, edits, cut_with)
        over = sum(1 for number in changed if number > 3) / len(changed)
        print(f"{name:8}{chunks:8}{sum(changed) / len(changed):14.2f}{over:9.2%}{max(changed):7}")


if __name__ == "__main__":
    main()
