"""Measure what is found for golden questions: ways to search, sizes of chunks, what is embedded, what BM25 reads.

    python -m benchmarks.retrieval FOLDER        the FastAPI documentation's English Markdown (see README.md here)

Prints the tables of benchmarks/results/retrieval.md, in Markdown: each measure's mean with its 95% interval (questions
drawn anew 5,000 times), and how often a bound on the best cosine abstains wrongly. An in-process Milvus Lite holds the
chunks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from blocks.embedder import Embedder
from blocks.milvus_store import MilvusStore
from blocks.settings import Settings
from tasks.documents.chunk import Measure, capacity_of, cut_document
from tasks.documents.parse import parse
from tasks.embedding.model import EmbeddingModel, load_model
from tasks.evaluation.compare import interval
from tasks.evaluation.evaluate import ranked
from tasks.evaluation.golden import Golden, parse_golden
from tasks.evaluation.metrics import NAMES, measures
from tasks.milvus.rows import Columns, to_rows
from tasks.milvus.store import Store
from tasks.models import ChunkedBatch, Document, EmbeddedBatch, ObjectRef
from tasks.retrieval.retrieve import Retrieved, find

HERE = Path(__file__).parent
SIZES = (96, 128, 192, 254)
BEST = 96
WAYS = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "hybrid, ranks": {"mode": "hybrid", "fusion": "ranks"},
    "hybrid, dense 0.3": {"mode": "hybrid", "dense_share": 0.3},
    "hybrid, dense 0.5": {"mode": "hybrid", "dense_share": 0.5},
    "hybrid, dense 0.7": {"mode": "hybrid", "dense_share": 0.7},
}
BOUNDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


@dataclass(frozen=True)
class Set:
    """Golden questions, and the documents that answer them."""

    name: str
    documents: list[Document]
    questions: list[Golden]


@dataclass(frozen=True)
class Built:
    """A set's chunks in Milvus."""

    store: Store
    collection: str
    chunks: int


def read(name: str, folder: Path, golden: Path) -> Set:
    """Return a set: the Markdown files below a folder, parsed, and the questions of a file."""
    documents = []
    for path in sorted(folder.rglob("*.md")):
        key = path.relative_to(folder).as_posix()
        documents.append(
            Document(ObjectRef(key, "1", path.stat().st_size, 0), tuple(parse(path, key, "text/markdown")))
        )
    return Set(name, documents, parse_golden(golden.read_text(), str(golden)))


def build(store: Store, model: EmbeddingModel, of: Set, settings: Settings, known: dict[str, Any]) -> Built:
    """Write a set's chunks to a collection of their own; ``known`` holds the vectors of texts embedded before."""
    measure = Measure(model.counter, capacity_of(settings, model.counter))
    cut = ChunkedBatch(tuple(cut_document(document, settings, measure) for document in of.documents))
    new = {chunk.text_hash: chunk.embedded for chunk in cut.chunks if chunk.text_hash not in known}
    known.update(zip(new, model.encode(list(new.values())), strict=True))
    vectors = np.asarray([known[chunk.text_hash] for chunk in cut.chunks], np.float32)
    collection = f"bench_g{store.newest_number() + 1:04d}"
    store.create(collection, model.dimension, settings, {})
    store.upsert(collection, to_rows(EmbeddedBatch(cut, vectors, 0, 0), 0, "", Columns(words=True)))
    return Built(store, collection, len(vectors))


def ask(built: Built, model: EmbeddingModel, questions: Sequence[Golden], settings: Settings) -> list[dict[str, float]]:
    """Return the measures of each question that has an answer."""
    asked = [one for one in questions if one.relevant]
    vectors = model.encode([one.question for one in asked])
    found = [
        ranked(partial(find, built.store, built.collection, one.question, vector), settings, "")
        for one, vector in zip(asked, vectors, strict=True)
    ]
    return measures(found, [one.relevant for one in asked])


def row(cells: Sequence[object], each: Sequence[dict[str, float]]) -> str:
    """Return a line of a table: what was measured, and each measure with its interval."""
    values = [interval([one[name] for one in each]) for name in NAMES]
    shown = [f"{one.difference:.3f} ({one.low:.2f}–{one.high:.2f})" for one in values]
    return "| " + " | ".join([*map(str, cells), *shown]) + " |"


def header(*names: str) -> str:
    """Return the head of a table of measures."""
    cells = [*names, *NAMES]
    return "| " + " | ".join(cells) + " |\n|" + " --- |" * len(cells)


def say(line: str) -> None:
    """Print a line at once: the whole takes a while."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sizes_and_ways(store: Store, model: EmbeddingModel, sets: Sequence[Set], known: dict[str, Any], _: int) -> None:
    """Print the first table: chunk sizes, with and without the heading path, each searched in all ways."""
    say("\n## Chunk sizes and search modes\n\n" + header("set", "tokens", "headings", "chunks", "search"))
    for of in sets:
        for tokens in SIZES:
            for headings in (True, False):
                settings = Settings(chunk_tokens=tokens, embed_heading=headings)
                built = build(store, model, of, settings, known)
                for way, update in WAYS.items():
                    each = ask(built, model, of.questions, settings.model_copy(update=update))
                    say(row([of.name, tokens, "yes" if headings else "no", built.chunks, way], each))
                store.drop(built.collection)


def standard(text: str) -> list[str]:
    """Return the words of a text as a server's standard analyzer takes them."""
    from tasks.text.words import TOKEN

    return [token.lower() for token in TOKEN.findall(text)]


@contextmanager
def patched(**changed: Any) -> Iterator[None]:
    """Let `tasks.text.words` do something else for a while."""
    import tasks.milvus.rows
    import tasks.milvus.search
    import tasks.text.words

    with ExitStack() as all_patches:
        for name, value in changed.items():
            if name == "words":
                all_patches.enter_context(patch.object(tasks.milvus.rows, name, value))
                all_patches.enter_context(patch.object(tasks.milvus.search, name, value))
            else:
                all_patches.enter_context(patch.object(tasks.text.words, name, value))
        yield


def analyzers(store: Store, model: EmbeddingModel, sets: Sequence[Set], known: dict[str, Any], tokens: int) -> None:
    """Print the second table: what BM25 reads, one thing left out at a time."""
    import re

    say("\n## Tokenization for BM25\n\n" + header("set", "words", "search"))
    variants: dict[str, Callable[[], Any]] = {
        "as they are (standard analyzer)": lambda: patched(words=standard),
        "ours": patched,
        "ours without stemming": lambda: patched(_stem=lambda word: word),
        "ours with stop words": lambda: patched(ENGLISH=frozenset()),
        "ours without parts of identifiers": lambda: patched(SEAM=re.compile(r"(?!)")),
    }
    settings = Settings(chunk_tokens=tokens)
    for of in sets:
        for name, variant in variants.items():
            with variant():
                built = build(store, model, of, settings, known)
                for way in ("lexical", "hybrid, ranks", "hybrid, dense 0.5", "hybrid, dense 0.7"):
                    each = ask(built, model, of.questions, settings.model_copy(update=WAYS[way]))
                    say(row([of.name, name, way], each))
                store.drop(built.collection)


def abstaining(store: Store, model: EmbeddingModel, sets: Sequence[Set], known: dict[str, Any], tokens: int) -> None:
    """Print the third table: how often each bound abstains from what is answered, and answers what is not."""
    say("\n## Abstaining\n\n| set | min_score | wrongly abstained | wrongly answered |\n| --- | --- | --- | --- |")
    settings = Settings(chunk_tokens=tokens)
    pairs: list[tuple[bool, float]] = []
    for of in sets:
        built = build(store, model, of, settings, known)
        vectors = model.encode([one.question for one in of.questions])
        found = [
            (bool(one.relevant), _best(built, one, vector, settings))
            for one, vector in zip(of.questions, vectors, strict=True)
        ]
        pairs += found
        _rates(of.name, found)
        store.drop(built.collection)
    _rates("both", pairs)


def _best(built: Built, one: Golden, vector: Any, settings: Settings) -> float:
    found: Retrieved = find(built.store, built.collection, one.question, vector, settings)
    return found.best


def _rates(name: str, found: Sequence[tuple[bool, float]]) -> None:
    answered = [best for has_answer, best in found if has_answer]
    others = [best for has_answer, best in found if not has_answer]
    for bound in BOUNDS:
        missed = sum(best < bound for best in answered) / len(answered)
        invented = sum(best >= bound for best in others) / len(others)
        say(f"| {name} | {bound:.2f} | {missed:.1%} of {len(answered)} | {invented:.1%} of {len(others)} |")


TABLES: dict[str, Callable[..., None]] = {"words": analyzers, "abstaining": abstaining, "sizes": sizes_and_ways}


def main() -> None:
    """Measure everything."""
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reading.add_argument("folder", type=Path, help="docs/en/docs of fastapi/fastapi at c3f316b7e")
    reading.add_argument("--tokens", type=int, default=BEST, help="size of chunks of the second and third table")
    reading.add_argument("--only", choices=TABLES, nargs="*", default=list(TABLES), help="the tables to print")
    given = reading.parse_args()
    folder: Path = given.folder
    began = time.monotonic()
    sets = [
        read("prose", HERE / "prose", HERE / "prose.jsonl"),
        read("technical", folder, HERE / "technical.jsonl"),
    ]
    model = load_model(Embedder())
    known: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lockstep-retrieval-") as home:
        store = Store(MilvusStore(uri=f"{home}/milvus.db"), "bench")
        for name in given.only:
            TABLES[name](store, model, sets, known, given.tokens)
        store.client.close()
    say(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
