"""Answer a question: embed, search, generate or extract, check. With the flow engine, or without."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.canary import Watch
from tasks.cite import abstains, cite
from tasks.embed import load_model
from tasks.extract import extract_answer
from tasks.generate import generate
from tasks.models import Answer, Citation, Mode
from tasks.outdated import mark_outdated
from tasks.prompt import ABSTAIN
from tasks.question import checked
from tasks.retrieve import Retrieved, embed_question, on_live, retrieve
from tasks.store import Store
from tasks.tenants import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blocks.pipeline import Pipeline
    from blocks.settings import Settings
    from tasks.embed import EmbeddingModel

EXTRACTIVE_NOTE = "no chat model is configured: these are sentences of the documents (set VLLM_BASE_URL for answers)"
UNCITED_NOTE = "the model cited none of the passages: do not rely on this answer"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of an answer as callables: Prefect tasks in a flow, plain functions elsewhere."""

    embed: Callable[..., Any]
    search: Callable[..., Any]
    generate: Callable[..., Any]
    check: Callable[..., Any]
    extract: Callable[..., Any]


RECORDED = Steps(embed_question, retrieve, generate, cite, extract_answer)
PLAIN = Steps(*(step.fn for step in (embed_question, retrieve, generate, cite, extract_answer)))


class Stopwatch:
    """Seconds by stage, in the order they were measured."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 4)

    def total(self) -> dict[str, float]:
        """Return the stages and ``total``, which holds what lies between them as well."""
        return {**self.seconds, "total": round(time.monotonic() - self._started, 4)}


def answer(
    pipeline: Pipeline,
    question: str,
    settings: Settings,
    steps: Steps = PLAIN,
    session: str = "",
    scope: Scope = EVERYTHING,
) -> Answer:
    """Answer a question from the pipeline's live generation, or from the one in canary; a session stays with one.

    ``scope`` says of which objects it is asked. Without a chat model the answer is extracted, and says so; when nothing
    found is near enough to the question, or the model finds no answer in it, the answer says that (mode ``abstained``).
    """
    question = checked(question)
    watch = Stopwatch()

    def look(collection: str, built: Pipeline) -> tuple[EmbeddingModel, NDArray[np.float32], Retrieved]:
        with watch.stage("load"):
            model = load_model(built.embedder)
        began = time.monotonic()
        with watch.stage("embed"):
            vector = steps.embed(model, question)
        with watch.stage("search"):
            where = scope.condition(built.settings.tenants)
            found = steps.search(store, collection, question, vector, built.settings, where)
        asked.note(collection, time.monotonic() - began, found.best, found.best < settings.min_score)
        return model, vector, found

    with watch.stage("load"):
        store = Store(pipeline.store, pipeline.alias)
        asked = Watch(pipeline)
    with closing(store.client):
        as_asked = pipeline.model_copy(update={"settings": settings})
        model, vector, found = on_live(store, as_asked, look, asked, session or question)
    found = mark_outdated(found, pipeline)
    tokens: dict[str, int] = {}
    notes = found.notes
    text, citations = ABSTAIN, tuple[Citation, ...]()
    mode: Mode = "abstained"
    if found.hits and found.best >= settings.min_score:
        if pipeline.chat_model is None:
            with watch.stage("extract"):
                text, citations = steps.extract(found.hits, vector, model, settings)
            mode, notes = "extractive", (*notes, EXTRACTIVE_NOTE)
        else:
            with watch.stage("generate"):
                reply = steps.generate(pipeline.chat_model, question, found.hits, settings)
            tokens = reply.tokens
            if not abstains(reply.text):
                with watch.stage("check"):
                    text, citations = steps.check(reply)
                mode, notes = "generated", (notes if citations else (*notes, UNCITED_NOTE))
    return Answer(question, text, mode, citations, found.collection, watch.total(), tokens, notes)
