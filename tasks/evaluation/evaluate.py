"""Search a generation for golden questions and measure quality and latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.embedding.model import load_model
from tasks.errors import MisuseError
from tasks.evaluation.golden import Golden, check_known, keys_of, only_known
from tasks.evaluation.index_recall import percentile
from tasks.evaluation.metrics import DEPTH, mean, measures, rank
from tasks.generations.opening import as_generation
from tasks.ledger.objects import confirmed_versions
from tasks.retries import patiently
from tasks.retrieval.retrieve import Retrieved, find, possible
from tasks.retrieval.scope import Scope
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import SearchMode, Settings
    from tasks.resources import Resources

SHALLOW, DEEP = 50, 3200
"""Number of chunks to fetch in order to find ten objects: at first, and at most."""
KEYS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one question: ``found`` holds distinct keys, best first, ``rank`` the first relevant key's rank.

    ``measures`` is empty for a question that no object answers. ``best`` is the highest cosine. ``seconds`` is the
    time for embedding and search.
    """

    question: str
    relevant: tuple[str, ...]
    found: tuple[str, ...]
    rank: int | None
    best: float
    abstains: bool
    seconds: float
    measures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcomes of the golden questions on one generation in one search mode."""

    collection: str
    mode: str
    outcomes: tuple[Outcome, ...]

    @property
    def answerable(self) -> list[Outcome]:
        """The questions that some object answers. Only these have measures."""
        return [one for one in self.outcomes if one.relevant]

    @property
    def measures(self) -> dict[str, float]:
        """The mean of each metric."""
        return {name: round(value, 4) for name, value in mean([one.measures for one in self.answerable]).items()}

    @property
    def latency(self) -> dict[str, float]:
        """Latency percentiles of embedding and search over all questions, in milliseconds."""
        seconds = [one.seconds for one in self.outcomes]
        return {f"p{percent}_ms": round(1000 * percentile(seconds, percent), 2) for percent in (50, 95)}

    @property
    def abstention(self) -> dict[str, float | None]:
        """The share of questions without a chunk that is near enough, for answerable and unanswerable questions."""
        without = [one for one in self.outcomes if not one.relevant]
        return {"answerable": _share(self.answerable), "unanswerable": _share(without) if without else None}

    @property
    def label(self) -> str:
        """Generation and mode, for reports."""
        return f"{self.collection} ({self.mode})"


def _share(outcomes: Sequence[Outcome]) -> float:
    return round(sum(one.abstains for one in outcomes) / max(len(outcomes), 1), 4)


def distinct(keys: Iterator[str] | Sequence[str]) -> tuple[str, ...]:
    """Return the keys in order without repetitions, at most ``DEPTH``."""
    return tuple(dict.fromkeys(keys))[:DEPTH]


@patiently
def ask_one(resources: Resources, built: Pipeline, collection: str, one: Golden) -> Outcome:
    """Search for a question as `ask` does, with timing, then as deep as needed for ten distinct keys."""
    model, settings = load_model(built.embedder), built.settings
    began = time.perf_counter()
    vector = model.encode_question(one.question)
    where = Scope(tenant=one.tenant).condition(settings.tenants)
    near = find(resources.store, collection, one.question, vector, settings, where)
    seconds = time.perf_counter() - began
    found = ranked(partial(find, resources.store, collection, one.question, vector), settings, where)
    return Outcome(
        question=one.question,
        relevant=one.relevant,
        found=found,
        rank=rank(found, one.relevant),
        best=near.best,
        abstains=near.best < settings.min_score,
        seconds=round(seconds, 5),
        measures=measures([found], [one.relevant])[0] if one.relevant else {},
    )


def ranked(search: Callable[..., Retrieved], settings: Settings, where: str) -> tuple[str, ...]:
    """Return the ten distinct keys nearest to a question, best first; fewer when the generation has no more."""
    depth = SHALLOW
    while True:
        hits = search(settings.model_copy(update={"top_k": depth}), where).hits
        keys = distinct([hit.key for hit in hits])
        if len(keys) == DEPTH or len(hits) < depth or depth >= DEEP:
            return keys
        depth *= 4


def listed(resources: Resources, collection: str, keys: Sequence[str], indexed: bool = False) -> set[str]:
    """Return the keys that the ledger has for a generation. With ``indexed``, only keys with an indexed version."""
    found: set[str] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = confirmed_versions(resources.ledger, collection, keys[start : start + KEYS_AT_ONCE])
        found.update(key for key, (etag, _) in some.items() if etag is not None or not indexed)
    return found


def evaluated(
    resources: Resources, collection: str, mode: SearchMode | None, questions: Sequence[Golden]
) -> Evaluation:
    """Evaluate a generation with its own settings, in its pipeline's search mode or another."""
    built = as_generation(resources, collection)
    settings = built.settings.model_copy(update={"mode": mode} if mode else {})
    can = resources.store.capabilities
    settings = settings.model_copy(update={"mode": possible(settings.mode, can.bm25, can.version)[0]})
    built = built.model_copy(update={"settings": settings})
    ask_one(resources, built, collection, questions[0])  # warm up: the first search of a process includes loading
    outcomes: list[Outcome] = []
    for one in questions:
        outcomes.append(ask_one(resources, built, collection, one))
        resources.progress.advanced(1)
    return Evaluation(collection, settings.mode, tuple(outcomes))


@task(name="known questions", task_run_name="look the golden keys up in {collection}", **RETRIED)
def known(
    resources: Resources, collection: str, questions: Sequence[Golden], where: str, ignore_missing: bool
) -> list[Golden]:
    """Return the questions that can be measured on a generation.

    Raises ``MisuseError`` when a question names a key outside the generation, unless ``ignore_missing`` is set.
    """
    there = listed(resources, collection, keys_of(questions), indexed=True)
    if not ignore_missing:
        check_known(questions, there, where, collection)
    asked = only_known(questions, there)
    if not any(one.relevant for one in asked):
        raise MisuseError(f"no golden question in {where} names an object of {collection}.")
    return asked


@task(name="evaluate", task_run_name="ask {collection} the golden questions", **RETRIED)
def evaluate(resources: Resources, collection: str, mode: SearchMode | None, questions: Sequence[Golden]) -> Evaluation:
    """Evaluate a generation with golden questions. Transient errors of Milvus are retried."""
    return evaluated(resources, collection, mode, questions)


def as_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row per question, for `lockstep evaluate --json` and the table artifact."""
    return [
        {
            "question": one.question,
            "relevant": list(one.relevant),
            "found": list(one.found),
            "rank": one.rank,
            **{name: round(value, 4) for name, value in one.measures.items()},
            "best_score": one.best,
            "abstained": one.abstains,
            "ms": round(1000 * one.seconds, 2),
        }
        for one in evaluation.outcomes
    ]
