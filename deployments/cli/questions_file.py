"""Search for one question, or for a file of them, without the flow engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import MisuseError
from tasks.models import Hit
from tasks.retrieval.question import check_text, checked
from tasks.retrieval.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings
    from tasks.milvus.store import Store
    from tasks.retrieval.routing import Router

TOGETHER = 32
"""Questions of a file that are embedded in one go."""


@dataclass(frozen=True, slots=True)
class Question:
    """A line of a questions file."""

    id: str
    question: str


@dataclass(frozen=True, slots=True)
class Found:
    """What one question found, and how long it took: ``embed`` is its share of a common forward pass."""

    id: str
    collection: str
    hits: tuple[Hit, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file with one JSON ``{"id", "question"}`` a line.

    Raises ``MisuseError`` naming the first line that is not one, before anything is answered.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"--queries-file {path} cannot be read: {error}.") from error
    found: list[Question] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_question(line, f"{path}, line {number}"))
    return found


def _question(line: str, where: str) -> Question:
    expected = 'is not a JSON object with "id" and "question"'
    try:
        given = json.loads(line)
        check_text("the id", name := str(given["id"]))
        return Question(name, checked(given["question"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{where} {expected}: {line[:80]}") from error
    except MisuseError as error:
        raise MisuseError(f"{where}: {error}") from error


def search_all(
    pipeline: Pipeline, questions: Sequence[Question], settings: Settings, scope: Scope = EVERYTHING
) -> Iterator[Found]:
    """Yield what each question finds, in order; the model and the connection are opened once."""
    # Not at the top: questions are read before Prefect, which these import, is told where its home is.
    from tasks.milvus.store import Store
    from tasks.retrieval.routing import Router, on_live

    asked = pipeline.model_copy(update={"settings": settings})
    store = Store(pipeline.store, pipeline.alias)
    with closing(store.client):
        while questions:
            watch = Router(pipeline)
            together = 1 if watch.canary else TOGETHER  # neighbours may go different ways in a canary
            group, questions = questions[:together], questions[together:]
            run = partial(_search_some, store, group, watch, scope)
            yield from on_live(store, asked, run, watch, group[0].question)


def _search_some(
    store: Store, group: Sequence[Question], watch: Router, scope: Scope, collection: str, built: Pipeline
) -> list[Found]:
    """Search one generation, built as ``built`` says, for a few questions."""
    from tasks.embedding.model import load_model
    from tasks.retrieval.outdated import mark_outdated
    from tasks.retrieval.retrieve import find

    where = scope.condition(built.settings.tenants)
    model = load_model(built.embedder)
    began = time.monotonic()
    vectors = model.encode([one.question for one in group], built.embedder.query_prompt)
    embedding = (time.monotonic() - began) / len(group)
    results: list[Found] = []
    for one, vector in zip(group, vectors, strict=True):
        began = time.monotonic()
        found = find(store, collection, one.question, vector, built.settings, where)
        searching = time.monotonic() - began
        watch.note(collection, embedding + searching, found.best, found.best < built.settings.min_score)
        found = mark_outdated(found, built)
        seconds = {"embed": round(embedding, 4), "search": round(searching, 4)}
        results.append(Found(one.id, found.collection, found.hits, seconds, found.notes))
    return results
