"""Search for one question or many, without Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks import traces
from tasks.embedding.model import load_model
from tasks.embedding.reranker import load_reranker
from tasks.errors import GoneError, LockstepError, MisuseError, PartError
from tasks.guards.questions import without_personal_data
from tasks.models import Hit
from tasks.retrieval.outdated import mark_all
from tasks.retrieval.question import Question
from tasks.retrieval.retrieve import find_all
from tasks.retrieval.routing import Attempt, Connections, Index
from tasks.retrieval.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

TOGETHER = 32
"""Questions of a file that are searched together."""
MOST_HITS = 1000
"""Of one call, whose questions times hits would otherwise be more than a server's answer may hold."""


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


Result = Found | LockstepError
"""What a question finds, or why it finds nothing."""
Tell = Callable[[Mapping[int, Result]], None]
"""Takes the results of some questions of a group, by their positions in it."""


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
            index.look()
            # A canary is judged by the seconds of its questions, so each is searched by itself.
            together = 1 if index.router.canary else TOGETHER
            group, questions = questions[:together], questions[together:]
            results: dict[int, Result] = {}
            Searcher(index, settings, scope, results.update).search(dict(enumerate(group)))
            for at in range(len(group)):
                found = _raised(results[at])
                share = {stage: round(seconds / len(group), 4) for stage, seconds in found.seconds.items()}
                yield replace(found, seconds=share, notes=(*next(notes), *found.notes))


def search_together(
    pipeline: Pipeline,
    questions: Sequence[Question],
    settings: Settings,
    connections: Connections,
    scope: Scope,
    tell: Tell,
    embedded: Callable[[float], None],
) -> None:
    """Search for questions over connections that are open, and ``tell`` what each finds, or why it finds nothing.

    Results are told by the positions of their questions, as soon as they are known. All are embedded in one forward
    pass and searched in as few calls as their hits allow. Personal data is masked or refused as the settings say.
    ``embedded`` is called with the seconds of an embedding before the search begins. While a canary runs each question
    is searched by itself, those that the live generation answers first: the canary is judged by the seconds and the
    failures of its questions, and what is wrong with it is nobody else's trouble. Raises what keeps all from being
    searched that were not told.
    """
    admitted: dict[int, Question] = {}
    notes: dict[int, tuple[str, ...]] = {}
    for at, one in enumerate(questions):
        try:
            text, notes[at] = without_personal_data(one.question, settings)
        except MisuseError as error:
            tell({at: error})
        else:
            admitted[at] = replace(one, question=text)
    if not admitted:
        return

    def tell_noted(results: Mapping[int, Result]) -> None:
        tell({at: _noted(result, notes[at]) for at, result in results.items()})

    with Index(pipeline, connections) as index:
        searcher = Searcher(index, settings, scope, tell_noted, embedded)
        if not index.router.canary:
            searcher.search(admitted)
            return
        live = index.store.resolve()
        for at in sorted(admitted, key=lambda at: index.router.collection(live, admitted[at].asker) != live):
            try:
                searcher.search({at: admitted[at]})
            except LockstepError as error:
                tell({at: error})


def search_one(pipeline: Pipeline, question: Question, settings: Settings, connections: Connections) -> Found:
    """Return what one question finds, over connections that are open. Raises what keeps it from being searched."""
    results: dict[int, Result] = {}
    search_together(pipeline, [question], settings, connections, EVERYTHING, results.update, lambda _seconds: None)
    return _raised(results[0])


def _raised(result: Result) -> Found:
    if isinstance(result, LockstepError):
        raise result
    return result


def _noted(result: Result, notes: tuple[str, ...]) -> Result:
    return replace(result, notes=(*notes, *result.notes)) if isinstance(result, Found) else result


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches an index for groups of questions, with the same settings and scope for all."""

    index: Index
    settings: Settings
    scope: Scope
    tell: Tell
    embedded: Callable[[float], None] = lambda _seconds: None

    def search(self, group: Mapping[int, Question]) -> None:
        """Search for a group, and tell the results. All go to one generation: that of the first question's asker."""
        first = next(iter(group.values()))
        collection = self.index.router.collection(self.index.store.resolve(), first.asker)
        with traces.some(list(group)):
            for attempt in self.index.attempts_on(collection):
                with traces.retrieval(self.index.pipeline.alias, self.settings.top_k), attempt:
                    self._on(attempt, group)

    def _on(self, attempt: Attempt, group: Mapping[int, Question]) -> None:
        """Search with the settings and the models that the generation was built with."""
        built = attempt.pipeline(self.settings)
        where = self.scope.condition(built.settings.tenants)
        model = load_model(built.embedder)
        if built.settings.rerank_model:
            load_reranker(built.settings.rerank_model)
        asked, began = list(group.items()), time.monotonic()
        with traces.embeddings(built.embedder.model_name):
            vectors = model.encode_questions([one.question for _, one in asked])
        embedding = time.monotonic() - began
        self.embedded(embedding)
        call = Call(attempt, built, where, embedding)
        # A reranker scores one question after the other, so each is told before the next one is scored.
        size = 1 if built.settings.rerank_model else max(1, MOST_HITS // built.settings.top_k)
        for start in range(0, len(asked), size):
            these = slice(start, start + size)
            with traces.some(range(*these.indices(len(asked)))):
                self.tell(self._found(call, asked[these], vectors[these]))

    def _found(
        self, call: Call, asked: Sequence[tuple[int, Question]], vectors: Sequence[NDArray[np.float32]]
    ) -> dict[int, Result]:
        """Return what some questions find in one call. If Milvus refuses it, each is tried alone: one may be bad."""
        began = time.monotonic()
        questions, settings = [one.question for _, one in asked], call.built.settings
        try:
            found = find_all(self.index.store, call.attempt.collection, questions, vectors, settings, call.where)
        except GoneError:
            raise
        except PartError as error:
            if len(asked) == 1:
                self.index.router.note(call.attempt.collection, 0.0, None)
                return {asked[0][0]: error}
            results: dict[int, Result] = {}
            for at in range(len(asked)):
                with traces.some([at]):
                    results |= self._found(call, asked[at : at + 1], vectors[at : at + 1])
            return results
        searching = time.monotonic() - began
        for one in found:
            weak = one.best < settings.min_score
            self.index.router.note(call.attempt.collection, call.embedding + searching, one.best, weak)
        seconds = {"embed": round(call.embedding, 4), "search": round(searching, 4)}
        return {
            at: Found(question.id, one.collection, one.hits, seconds, one.notes)
            for (at, question), one in zip(asked, mark_all(found, self.index.ledger), strict=True)
        }


@dataclass(frozen=True, slots=True)
class Call:
    """What the calls of Milvus for one group share: the embedding's seconds count for each of its questions."""

    attempt: Attempt
    built: Pipeline
    where: str
    embedding: float
