"""Search for one question or many, without Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks import traces
from tasks.embedding.model import load_model
from tasks.errors import LockstepError, MisuseError, PartError
from tasks.guards.questions import without_personal_data
from tasks.models import Hit
from tasks.retrieval.outdated import mark_all
from tasks.retrieval.question import Question
from tasks.retrieval.retrieve import find_all
from tasks.retrieval.routing import Attempt, Connections, Index
from tasks.retrieval.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

TOGETHER = 32
"""Questions that are embedded in one forward pass."""


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of one question, and how long it waited for its vector (``embed``) and its hits (``search``).

    Questions that are searched together wait for each other, so each has the seconds of all.
    """

    id: str
    collection: str
    hits: tuple[Hit, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def search_all(
    pipeline: Pipeline, questions: Sequence[Question], settings: Settings, scope: Scope = EVERYTHING
) -> Iterator[Found]:
    """Yield the hits of each question, in order. The model and the connections are opened once.

    Personal data is masked or refused as the settings say. ``seconds`` are a question's share of those of its group.
    """
    admitted = [without_personal_data(one.question, settings) for one in questions]
    questions = [replace(one, question=text) for one, (text, _) in zip(questions, admitted, strict=True)]
    notes = (some for _, some in admitted)
    with Index(pipeline) as index:
        while questions:
            index.router.look()
            # A canary is judged by the seconds of its questions, so each is searched by itself.
            together = 1 if index.router.canary else TOGETHER
            group, questions = questions[:together], questions[together:]
            for found in Searcher(index, settings, scope).together(group):
                share = {stage: round(seconds / len(group), 4) for stage, seconds in found.seconds.items()}
                yield replace(found, seconds=share, notes=(*next(notes), *found.notes))


def search_together(
    pipeline: Pipeline,
    questions: Sequence[Question],
    settings: Settings,
    connections: Connections,
    scope: Scope = EVERYTHING,
    embedded: Callable[[float], None] = lambda _seconds: None,
) -> list[Found | LockstepError]:
    """Return what each question finds, or why it finds nothing, over connections that are open.

    All are embedded in one forward pass and searched in one call. Personal data is masked or refused as the settings
    say: a question that is refused does not keep the others from being searched. ``embedded`` is called with the
    seconds of the embedding before the search begins.
    """
    results: dict[int, Found | LockstepError] = {}
    admitted: dict[int, tuple[Question, tuple[str, ...]]] = {}
    for at, one in enumerate(questions):
        try:
            text, notes = without_personal_data(one.question, settings)
        except MisuseError as error:
            results[at] = error
        else:
            admitted[at] = replace(one, question=text), notes
    if admitted:
        with Index(pipeline, connections) as index:
            found = Searcher(index, settings, scope, embedded).each([one for one, _ in admitted.values()])
        for (at, (_, notes)), result in zip(admitted.items(), found, strict=True):
            told = replace(result, notes=(*notes, *result.notes)) if isinstance(result, Found) else result
            results[at] = told
    return [results[at] for at in range(len(questions))]


def search_one(
    pipeline: Pipeline,
    question: str,
    settings: Settings,
    connections: Connections,
    scope: Scope = EVERYTHING,
) -> Found:
    """Return what one question finds, over connections that are open. Raises what keeps it from being searched."""
    (found,) = search_together(pipeline, [Question("", question)], settings, connections, scope)
    if isinstance(found, LockstepError):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches an index for groups of questions, with the same settings and scope for all."""

    index: Index
    settings: Settings
    scope: Scope
    embedded: Callable[[float], None] = lambda _seconds: None

    def each(self, group: Sequence[Question]) -> Sequence[Found | LockstepError]:
        """Return what a group finds. If the index refuses it, each question is searched alone: one may be to blame."""
        try:
            return self.together(group)
        except PartError:
            if len(group) == 1:
                raise
        alone: list[Found | LockstepError] = []
        for one in group:
            try:
                alone += self.together([one])
            except LockstepError as error:
                alone.append(error)
        return alone

    def together(self, group: Sequence[Question]) -> list[Found]:
        """Return what a group finds. The alias is resolved once; while a canary runs, some are routed to it."""
        live = self.index.store.resolve()
        routed: dict[str, list[int]] = {}
        for at, one in enumerate(group):
            routed.setdefault(self.index.router.collection(live, one.asker), []).append(at)
        found: dict[int, Found] = {}
        for collection, some in routed.items():
            for attempt in self.index.attempts_on(collection):
                with traces.retrieval(self.index.pipeline.alias, self.settings.top_k), attempt:
                    found.update(zip(some, self._on(attempt, [group[at] for at in some]), strict=True))
        return [found[at] for at in range(len(group))]

    def _on(self, attempt: Attempt, group: Sequence[Question]) -> list[Found]:
        """Search one generation, with the settings and the model that it was built with."""
        built = attempt.pipeline(self.settings)
        where = self.scope.condition(built.settings.tenants)
        questions = [one.question for one in group]
        began = time.monotonic()
        with traces.embeddings(built.embedder.model_name):
            vectors = load_model(built.embedder).encode_questions(questions)
        embedding = time.monotonic() - began
        self.embedded(embedding)
        found = find_all(self.index.store, attempt.collection, questions, vectors, built.settings, where)
        searching = time.monotonic() - began - embedding
        for one in found:
            weak = one.best < built.settings.min_score
            self.index.router.note(attempt.collection, embedding + searching, one.best, weak)
        seconds = {"embed": round(embedding, 4), "search": round(searching, 4)}
        return [
            Found(asked.id, one.collection, one.hits, seconds, one.notes)
            for asked, one in zip(group, mark_all(found, self.index.ledger), strict=True)
        ]
