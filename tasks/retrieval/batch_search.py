"""Search for many questions, without Prefect."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks import traces
from tasks.embedding.model import load_model
from tasks.guards.questions import without_personal_data
from tasks.models import Hit
from tasks.retrieval.outdated import mark_outdated
from tasks.retrieval.question import Question
from tasks.retrieval.retrieve import find
from tasks.retrieval.routing import Attempt, Connections, Index
from tasks.retrieval.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

TOGETHER = 32
"""Questions that are embedded in one forward pass."""


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of one question and its timings. ``seconds["embed"]`` is its share of a common forward pass."""

    id: str
    collection: str
    hits: tuple[Hit, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def search_all(
    pipeline: Pipeline, questions: Sequence[Question], settings: Settings, scope: Scope = EVERYTHING
) -> Iterator[Found]:
    """Yield the hits of each question, in order. The model and the connections are opened once.

    Personal data is masked or refused as the settings say.
    """
    admitted = [without_personal_data(one.question, settings) for one in questions]
    questions = [replace(one, question=text) for one, (text, _) in zip(questions, admitted, strict=True)]
    notes = (some for _, some in admitted)
    with Index(pipeline) as index:
        while questions:
            index.router.look()
            # A canary routes each question by itself, so a group could belong to two generations.
            together = 1 if index.router.canary else TOGETHER
            group, questions = questions[:together], questions[together:]
            results: list[Found] = []
            for attempt in index.attempts(group[0].question):
                with attempt:
                    results = _search_some(index, attempt, group, settings, scope)
            for found in results:
                yield replace(found, notes=(*next(notes), *found.notes))


def search_one(
    pipeline: Pipeline,
    question: str,
    settings: Settings,
    connections: Connections,
    scope: Scope = EVERYTHING,
    session: str = "",
) -> Found:
    """Return what one question finds, over connections that are open; a session stays with one generation.

    Personal data is masked or refused as the settings say.
    """
    question, notes = without_personal_data(question, settings)
    early = connections.begin(question)
    with Index(pipeline, connections) as index:
        for attempt in index.attempts(session or question):
            with traces.retrieval(pipeline.alias, settings.top_k), attempt:
                built, where = _as_built(attempt, settings, scope)
                began = time.monotonic()
                with traces.embeddings(built.embedder.model_name):
                    vector = early.vector(load_model(built.embedder))
                found = _search(index, attempt, Question("", question), vector, built, where, time.monotonic() - began)
    return replace(found, notes=(*notes, *found.notes))


def _search_some(
    index: Index, attempt: Attempt, group: Sequence[Question], settings: Settings, scope: Scope
) -> list[Found]:
    """Search one generation for a few questions, with the settings and the model that it was built with."""
    built, where = _as_built(attempt, settings, scope)
    model = load_model(built.embedder)
    began = time.monotonic()
    vectors = model.encode([question.question for question in group], built.embedder.query_prompt)
    embedding = (time.monotonic() - began) / len(group)
    return [
        _search(index, attempt, question, vector, built, where, embedding)
        for question, vector in zip(group, vectors, strict=True)
    ]


def _as_built(attempt: Attempt, settings: Settings, scope: Scope) -> tuple[Pipeline, str]:
    """Return the pipeline as the generation was built, and the scope as an expression of Milvus."""
    built = attempt.pipeline(settings)
    return built, scope.condition(built.settings.tenants)


def _search(
    index: Index,
    attempt: Attempt,
    question: Question,
    vector: NDArray[np.float32],
    built: Pipeline,
    where: str,
    embedding: float,
) -> Found:
    began = time.monotonic()
    found = find(index.store, attempt.collection, question.question, vector, built.settings, where)
    searching = time.monotonic() - began
    index.router.note(attempt.collection, embedding + searching, found.best, found.best < built.settings.min_score)
    found = mark_outdated(found, index.ledger)
    seconds = {"embed": round(embedding, 4), "search": round(searching, 4)}
    return Found(question.id, found.collection, found.hits, seconds, found.notes)
