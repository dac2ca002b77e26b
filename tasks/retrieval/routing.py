"""Route a question to the live generation, or to the one in canary."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tasks.errors import GoneError, LockstepError, MisuseError, SourceError
from tasks.generations.claims import check_asked, source_in
from tasks.generations.fingerprint import built_in, with_settings_of
from tasks.ledger.canary import Canary, canary_of, note_question
from tasks.ledger.database import Database, now
from tasks.ledger.generations import generation_of, recorded_sources
from tasks.milvus.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from blocks.pipeline import Pipeline
    from blocks.settings import Settings
    from tasks.embedding.model import EmbeddingModel

REMEMBERED_SECONDS = 30.0
"""How long shared connections remember what a collection was built with, which does not change while it answers."""
LedgerOrWhy = Database | LockstepError
"""The ledger, or why it cannot be opened: questions are answered all the same."""


class Router:
    """Routes questions between live and canary, and records how they fared.

    While the ledger is down, the live generation answers, and nothing is noted.
    """

    def __init__(self, alias: str, ledger: LedgerOrWhy) -> None:
        self.alias, self._ledger = alias, ledger
        self.canary: Canary | None = None
        self.sources: dict[str, dict[str, Any] | None] | None = None
        """Which bucket each generation holds, as far as the ledger knows; None while it does not answer."""
        self._search_params: dict[str, Any] | None = None
        self.look()

    def look(self) -> None:
        """Read the canary from the ledger again."""
        self.canary = None
        if isinstance(self._ledger, LockstepError):
            return
        with suppress(LockstepError):
            self.sources = recorded_sources(self._ledger, self.alias)
            if canary := canary_of(self._ledger, self.alias):
                known = generation_of(self._ledger, self.alias, canary.collection)
                self._search_params = known.search_params if known else None
                self.canary = canary

    def collection(self, live: str, asker: str) -> str:
        """Return the collection that answers this question or session: the live one, or the one in canary."""
        # A canary beside another live generation is over: the alias was moved.
        return self.canary.serves(asker) if self.canary and self.canary.live == live else live

    def search_params(self, collection: str) -> dict[str, Any] | None:
        """Return what the collection in canary is searched with; None for any other, whose pipeline has them."""
        return self._search_params if self.canary and self.canary.collection == collection else None

    def note(self, collection: str, seconds: float, best: float | None, abstained: bool = False) -> None:
        """Record how a question fared: ``best`` is the nearest chunk's cosine, None if it failed."""
        if self.canary and not isinstance(self._ledger, LockstepError):
            row = {"alias": self.alias, "collection": collection, "at": now(), "seconds": seconds, "best": best}
            with suppress(LockstepError):
                note_question(self._ledger, {**row, "abstained": abstained, "failed": best is None})


class Connections:
    """Milvus and the ledger of one pipeline, open: for one question, or shared by all threads of a service."""

    def __init__(self, pipeline: Pipeline, *, shared: bool = False) -> None:
        """Connect. Raises ``PartError`` or ``TransientError`` when Milvus cannot be used; the ledger may be down.

        Of ``shared`` connections what a collection was built with is remembered for some seconds.
        """
        self.store = Store(pipeline.store, pipeline.alias)
        self._ledger_block = pipeline.ledger
        self._remembers = REMEMBERED_SECONDS if shared else 0.0
        self._properties: dict[str, tuple[float, dict[str, str]]] = {}
        self._ledger: LedgerOrWhy | None = None
        self.last_model: EmbeddingModel | None = None
        """What the last question was embedded by; another one after a promotion."""
        self._opening = threading.Lock()
        self.ledger  # noqa: B018 - opened with the store, not with the first question

    @property
    def ledger(self) -> LedgerOrWhy:
        """The ledger, or why it cannot be opened; one that could not be opened is tried again with each question."""
        with self._opening:
            if not isinstance(self._ledger, Database):
                try:
                    self._ledger = Database(self._ledger_block)
                except LockstepError as error:
                    self._ledger = error
            return self._ledger

    def properties(self, collection: str, *, anew: bool = False) -> dict[str, str]:
        """Return what was kept with a collection; ``anew`` asks the server in any case."""
        known = self._properties.get(collection)
        if known and not anew and time.monotonic() - known[0] < self._remembers:
            return known[1]
        properties = self.store.properties(collection)
        self._properties[collection] = time.monotonic(), properties
        return properties

    def begin(self, question: str) -> Early:
        """Begin to embed a question by the model that the last one was embedded by, while the alias is looked up."""
        return Early(self, self.last_model, question)

    def close(self) -> None:
        """Close both."""
        self.store.close()
        if isinstance(self._ledger, Database):
            self._ledger.close()


class Early:
    """A question that is being embedded before it is known which generation answers it."""

    def __init__(self, connections: Connections, model: EmbeddingModel | None, question: str) -> None:
        self._connections, self._model, self._question = connections, model, question
        self._vector = model.begin_question(question, model.embedder.query_prompt) if model else None

    def vector(self, model: EmbeddingModel) -> NDArray[np.float32]:
        """Return the question's vector, shape (dimension,), by the model of the generation that answers."""
        if self._vector and model is self._model:
            return self._vector.result()
        self._connections.last_model = model
        return model.encode_question(self._question)


class Index:
    """What a question, or many, is answered from; a context manager that closes the connections which it opened."""

    def __init__(self, pipeline: Pipeline, connections: Connections | None = None) -> None:
        """Connect, unless ``connections`` are given.

        Raises ``PartError`` or ``TransientError`` when Milvus cannot be used; the ledger may be down.
        """
        self.pipeline = pipeline
        self._own = connections is None
        self.connections = connections or Connections(pipeline)
        self.store = self.connections.store
        self.ledger = self.connections.ledger
        self.router = Router(pipeline.alias, self.ledger)

    def __enter__(self) -> Index:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close what was opened for it."""
        if self._own:
            self.connections.close()

    def attempts(self, asker: str) -> Iterator[Attempt]:
        """Yield an attempt at a question, and a second one when its generation was dropped meanwhile.

        The alias is resolved once an attempt, so that an answer comes from one generation. ``asker``, the question or
        its session, decides for a canary.
        """
        collection = self.router.collection(self.store.resolve(), asker)
        attempt = Attempt(self, collection, self.router.search_params(collection))
        yield attempt
        if attempt.instead:
            yield Attempt(self, attempt.instead, None, last=True)


class Attempt:
    """One attempt at a question on one generation. Leaving its ``with`` decides whether another one is needed."""

    def __init__(
        self, index: Index, collection: str, search_params: dict[str, Any] | None, *, last: bool = False
    ) -> None:
        self.collection = collection
        self.instead: str | None = None
        """The collection that the alias points at since this one was dropped."""
        self._index, self._search_params, self._last = index, search_params, last

    def pipeline(self, settings: Settings) -> Pipeline:
        """Return the pipeline with ``settings`` as far as a question may choose them, the others as this was built.

        Raises ``SourceError`` when the generation holds another bucket or another ledger's objects.
        """
        asked = self._index.pipeline.model_copy(update={"settings": settings})
        properties = self._index.connections.properties(self.collection)
        try:
            check_asked(asked, self.collection, source_in(properties), self._index.router.sources)
        except SourceError:  # what is remembered may be older than what the ledger says
            properties = self._index.connections.properties(self.collection, anew=True)
            check_asked(asked, self.collection, source_in(properties), self._index.router.sources)
        return with_settings_of(asked, built_in(properties), self._search_params)

    def __enter__(self) -> Attempt:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Hide that the generation is gone when the alias points at another; note any other failure of the index."""
        if isinstance(error, GoneError):
            if not self._last and (live := self._index.store.resolve()) != self.collection:
                self.instead = live
            return self.instead is not None
        if isinstance(error, LockstepError) and not isinstance(error, MisuseError):  # that is the question's fault
            self._index.router.note(self.collection, 0.0, None)
        return False
