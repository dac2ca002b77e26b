"""Answer a question: embed, search, generate or extract, check. With Prefect, or without."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from tasks import traces
from tasks.answers.cache import CachedAnswer, kept
from tasks.answers.extractive import extract_answer
from tasks.answers.generate import cite, generate
from tasks.answers.passages import join
from tasks.answers.prompt import ABSTAIN
from tasks.answers.release import holds_stream, masked_piece, release
from tasks.citations.verify import UNVERIFIED, check_draft
from tasks.embedding.model import load_model
from tasks.embedding.reranker import load_reranker
from tasks.errors import LockstepError, PartError, StoppedError, TransientError
from tasks.guards.questions import admit
from tasks.listeners import reader
from tasks.models import Answer, Claim
from tasks.retrieval.outdated import mark_outdated
from tasks.retrieval.question import check_text, checked
from tasks.retrieval.retrieve import Retrieved, embed_question, retrieve
from tasks.retrieval.routing import Index
from tasks.retrieval.scope import EVERYTHING, Scope, nothing_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from prefect import Task

    from blocks.chat_model import ChatModel
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings
    from tasks.answers.generate import Tell
    from tasks.answers.prompt import Prompt
    from tasks.citations.drafts import Draft
    from tasks.embedding.model import EmbeddingModel
    from tasks.retrieval.routing import Connections, LedgerOrWhy

EXTRACTIVE_NOTE = "no chat model is configured: these sentences are quotes (set VLLM_BASE_URL for written answers)"
UNCITED_NOTE = "the model cited none of the passages: do not rely on this answer"
UNVERIFIED_NOTE = f"no support was found in the passages for the statements marked{UNVERIFIED}"
REMOVED_NOTE = "no statement of the model could be verified, and strict removes unverified statements"
CACHED_NOTE = "from the answer cache: written for an earlier question (use --no-cache for a new answer)"
FALLBACK_NOTE = "the chat model failed, so these sentences are quotes from the documents: {error}"


P = ParamSpec("P")
R = TypeVar("R")


class Run(Protocol):
    """A way to run a step of an answer: as a Prefect task, or as the function inside it."""

    def __call__(self, step: Task[P, R]) -> Callable[P, R]:
        """Return the function to call in place of a task."""


def recorded(step: Task[P, R]) -> Callable[P, R]:
    """Run a step as a task of the flow, so that the Prefect UI shows its duration and retries."""
    return cast("Callable[P, R]", step)


def plain(step: Task[P, R]) -> Callable[P, R]:
    """Run a step as a plain function. This saves the second that Prefect needs for a run."""
    return step.fn


class Stopwatch:
    """Durations by stage, in seconds, in the order of measurement."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time inside the ``with`` block. Repeated stages add up."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 4)

    def guard(self, settings: Settings) -> AbstractContextManager[None]:
        """Measure the time of guards; without any, no stage is shown."""
        return self.stage("guard") if settings.personal_data != "allow" or settings.moderation_url else nullcontext()

    def total(self) -> dict[str, float]:
        """Return the stages and ``total``, which includes the time between stages."""
        return {**self.seconds, "total": round(time.monotonic() - self._started, 4)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its search results and everything else that is needed to write the answer."""

    pipeline: Pipeline
    question: str
    settings: Settings
    run: Run
    watch: Stopwatch
    ledger: LedgerOrWhy
    found: Retrieved
    vector: NDArray[np.float32]
    model: EmbeddingModel
    scope: Scope


def answer(
    pipeline: Pipeline,
    question: str,
    settings: Settings,
    run: Run = plain,
    session: str = "",
    scope: Scope = EVERYTHING,
    connections: Connections | None = None,
) -> Answer:
    """Answer a question from the pipeline's live generation, or from the one in canary. A session stays with one.

    ``scope`` limits the objects. Without a chat model the answer is extracted, and a note says so. The answer
    abstains when no chunk is near enough to the question, or when the model finds no answer in the passages.
    A listener (:mod:`tasks.listeners`) gets the checked pieces of a generated answer as they are streamed.
    Open ``connections`` are used if given, and stay open. Guards that the settings name (:mod:`tasks.guards`) may mask
    or refuse the question, and mask or withhold the answer.
    """
    question = checked(question)
    check_text("the session", session)
    watch = Stopwatch()
    with watch.guard(settings):
        question, warnings = admit(question, settings, pipeline.chat_model)
    with watch.stage("load"):
        index = Index(pipeline, connections)
    with index:
        for attempt in index.attempts(session or question):
            with traces.retrieval(pipeline.alias, settings.top_k), attempt:
                built = attempt.pipeline(settings)
                with watch.stage("load"):
                    model = load_model(built.embedder)
                    if settings.rerank_model:
                        load_reranker(settings.rerank_model)
                with watch.stage("embed"), traces.embeddings(built.embedder.model_name):
                    vector = run(embed_question)(model, question)
                with watch.stage("search"):
                    where = scope.condition(built.settings.tenants)
                    found = run(retrieve)(index.store, attempt.collection, question, vector, built.settings, where)
        found = mark_outdated(found, index.ledger)
        if pipeline.chat_model and relevant(found, settings):
            with watch.stage("join"):
                found = replace(found, hits=run(join)(index.store, found.collection, found.hits, settings, where))
        finding = watch.seconds["embed"] + watch.seconds["search"]
        try:
            asked = Asked(pipeline, question, settings, run, watch, index.ledger, found, vector, model, scope)
            written, cached = write(asked)
        except StoppedError:
            raise  # which says nothing about the generation
        except LockstepError:
            index.router.note(found.collection, finding, None)
            raise
        index.router.note(found.collection, finding, found.best, written.mode == "abstained")
    with watch.guard(settings):
        written = release(written, settings, pipeline.chat_model)
    return Answer(
        question=question,
        answer=written.text,
        mode=written.mode,
        citations=written.citations,
        collection=found.collection,
        seconds=watch.total(),
        tokens=written.tokens or {},
        notes=tuple(dict.fromkeys((*warnings, *written.notes, *found.notes))),
        claims=written.claims,
        cached=cached,
        passages=found.hits,
    )


def relevant(found: Retrieved, settings: Settings) -> bool:
    """Return whether any chunk is near enough to the question to answer from."""
    return bool(found.hits) and found.best >= settings.min_score


def write(asked: Asked) -> tuple[CachedAnswer, bool]:
    """Return the answer to a question, and whether it came from the answer cache."""
    found, chat = asked.found, asked.pipeline.chat_model
    if not relevant(found, asked.settings):
        notes = () if found.hits else (nothing_found(found.collection, asked.scope),)
        return CachedAnswer(ABSTAIN, "abstained", notes=notes), False
    if chat is None:
        return extracted(asked, EXTRACTIVE_NOTE), False
    with asked.watch.stage("cache"):
        place = kept(asked.pipeline, asked.question, asked.settings, found, asked.ledger)
        before = place.read() if place else None
    if before:
        return replace(before, tokens={}, notes=(*before.notes, CACHED_NOTE)), True
    try:
        written = generated(asked, chat)
    except (TransientError, PartError) as error:
        if asked.settings.fallback == "none":
            raise
        return extracted(asked, FALLBACK_NOTE.format(error=error)), False
    if place and written.whole:
        with asked.watch.stage("cache"):
            place.write(written)
    return written, False


def extracted(asked: Asked, note: str) -> CachedAnswer:
    """Return the sentences of the documents that are nearest to the question."""
    with asked.watch.stage("extract"):
        text, citations = asked.run(extract_answer)(asked.found.hits, asked.vector, asked.model, asked.settings)
    claims = tuple(Claim(" ".join(one.quote.split()), (one.n,), True) for one in citations)
    return CachedAnswer(text, "extractive", claims, citations, notes=(note,))


def generated(asked: Asked, chat: ChatModel) -> CachedAnswer:
    """Return the chat model's answer, checked."""
    strict, run = asked.settings.strict, asked.run
    with asked.watch.stage("generate"):
        reply = run(generate)(chat, asked.question, asked.found.hits, asked.settings, telling(asked.settings))
    if not reply.drafts:
        return CachedAnswer(ABSTAIN, "abstained", tokens=reply.tokens, notes=reply.notes, whole=reply.whole)
    with asked.watch.stage("check"), traces.check() as span:
        checked = run(cite)(reply, strict)
        traces.checked(span, len(checked.claims), sum(claim.verified for claim in checked.claims))
    if not checked.text:
        return CachedAnswer(
            ABSTAIN, "abstained", tokens=reply.tokens, notes=(REMOVED_NOTE, *reply.notes), whole=reply.whole
        )
    doubts = not all(claim.verified for claim in checked.claims)
    notes = (*((UNVERIFIED_NOTE,) if doubts else ()), *reply.notes)
    if not any(claim.citations for claim in checked.claims):
        notes = (UNCITED_NOTE, *notes)
    return CachedAnswer(checked.text, "generated", checked.claims, checked.citations, reply.tokens, notes, reply.whole)


def telling(settings: Settings) -> Tell | None:
    """Return a function that passes each checked piece of an answer to the listener.

    None without a listener, and where only whole answers may leave.
    """
    read = reader.get()
    if read is None or holds_stream(settings):
        return None

    def tell(draft: Draft, prompt: Prompt) -> None:
        if one := check_draft(draft, prompt.passages, settings.strict):
            read(masked_piece(one, settings)[0])

    return tell
