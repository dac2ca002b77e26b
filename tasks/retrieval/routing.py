"""Choose the generation that answers a question: the live one, or the one in canary."""

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
from tasks.ledger.generations import Recorded, generation_of, recorded
from tasks.milvus.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

REMEMBERED_SECONDS = 30.0
"""How long shared connections remember the properties of a collection. They do not change while it answers."""
LedgerOrWhy = Database | LockstepError
"""The ledger, or the error if it cannot be opened. Questions are answered without it."""


SEEN_AFTER_MS = 60_000
"""After this time a write can be seen without asking for it. So the clock of a Milvus that was restored elsewhere, and
goes wrong, makes nobody wait."""


def to_see(generation: Recorded) -> int | None:
    """Return Milvus' time of the last write that a question has to see, if it is recent."""
    recent = generation.age_ms is not None and generation.age_ms < SEEN_AFTER_MS
    return generation.written_ts if recent else None


class Router:
    """Route questions between the live generation and the canary, and record the outcome of each question.

    While the ledger is down, the live generation answers, and nothing is recorded.
    """

    def __init__(self, alias: str, ledger: LedgerOrWhy) -> None:
        self.alias, self._ledger = alias, ledger
        self.canary: Canary | None = None
        self.sources: dict[str, dict[str, Any] | None] | None = None
        """The bucket of each generation, as recorded in the ledger; None while the ledger is down."""
        self.sees: dict[str, int | None] = {}
        """The time of Milvus, by collection, up to which a question has to see all writes."""
        self._search_params: dict[str, Any] | None = None
        self.look()

    def look(self) -> None:
        """Look up again in the ledger whether a canary is running."""
        self.canary = None
        if isinstance(self._ledger, LockstepError):
            return
        with suppress(LockstepError):
            known = recorded(self._ledger, self.alias)
            self.sources = {collection: one.source for collection, one in known.items()}
            self.sees = {collection: to_see(one) for collection, one in known.items()}
            if canary := canary_of(self._ledger, self.alias):
                generation = generation_of(self._ledger, self.alias, canary.collection)
                self._search_params = generation.search_params if generation else None
                self.canary = canary

    def collection(self, live: str, asker: str) -> str:
        """Return the collection that answers this question or session: the live one, or the one in canary."""
        # If the alias was moved since the canary began, the canary is over.
        return self.canary.serves(asker) if self.canary and self.canary.live == live else live

    def search_params(self, collection: str) -> dict[str, Any] | None:
        """Return the search parameters of the collection in canary; None for any other, whose pipeline has them."""
        return self._search_params if self.canary and self.canary.collection == collection else None

    def note(self, collection: str, seconds: float, best: float | None, abstained: bool = False) -> None:
        """Record the outcome of a question for the canary: ``best`` is the nearest chunk's cosine, None on failure."""
        if self.canary and not isinstance(self._ledger, LockstepError):
            row = {"alias": self.alias, "collection": collection, "at": now(), "seconds": seconds, "best": best}
            with suppress(LockstepError):
                note_question(self._ledger, {**row, "abstained": abstained, "failed": best is None})


class Connections:
    """Open connections to a pipeline's Milvus and ledger, for one question or for all threads of a service."""

    def __init__(self, pipeline: Pipeline, *, shared: bool = False) -> None:
        """Connect. Raises ``PartError`` or ``TransientError`` when Milvus fails, but not when the ledger does.

        ``shared`` connections remember for some seconds what a collection was built with.
        """
        self.store = Store(pipeline.store, pipeline.alias)
        self._ledger_block = pipeline.ledger
        self._remembers = REMEMBERED_SECONDS if shared else 0.0
        self._properties: dict[str, tuple[float, dict[str, str]]] = {}
        self._ledger: LedgerOrWhy | None = None
        self._opening = threading.Lock()
        self.ledger  # noqa: B018 - opened with the store, not with the first question

    @property
    def ledger(self) -> LedgerOrWhy:
        """The ledger, or the error if it cannot be opened. Each question tries again to open it."""
        with self._opening:
            if not isinstance(self._ledger, Database):
                try:
                    self._ledger = Database(self._ledger_block)
                except LockstepError as error:
                    self._ledger = error
            return self._ledger

    def properties(self, collection: str, *, anew: bool = False) -> dict[str, str]:
        """Return the properties that are stored with a collection. ``anew`` asks the server in any case."""
        known = self._properties.get(collection)
        if known and not anew and time.monotonic() - known[0] < self._remembers:
            return known[1]
        properties = self.store.properties(collection)
        self._properties[collection] = time.monotonic(), properties
        return properties

    def close(self) -> None:
        """Close both connections."""
        self.store.close()
        if isinstance(self._ledger, Database):
            self._ledger.close()


class Index:
    """The generations that answer one question or many. The context manager closes the connections that it opened."""

    def __init__(self, pipeline: Pipeline, connections: Connections | None = None) -> None:
        """Connect, unless ``connections`` are given.

        Raises ``PartError`` or ``TransientError`` when Milvus fails, but not when the ledger does.
        """
        self.pipeline = pipeline
        self._own = connections is None
        self.connections = connections or Connections(pipeline)
        self.store = self.connections.store
        self.ledger = self.connections.ledger
        self.router = Router(pipeline.alias, self.ledger)
        self.store.sees = self.router.sees

    def look(self) -> None:
        """Look up again in the ledger what a question has to know."""
        self.router.look()
        self.store.sees = self.router.sees

    def __enter__(self) -> Index:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections that were opened here."""
        if self._own:
            self.connections.close()

    def attempts(self, asker: str) -> Iterator[Attempt]:
        """Yield an attempt at a question, and a second one if its generation was dropped meanwhile.

        Each attempt resolves the alias once, so that an answer comes from one generation. ``asker``, the question or
        its session, decides whether the canary answers.
        """
        yield from self.attempts_on(self.router.collection(self.store.resolve(), asker))

    def attempts_on(self, collection: str) -> Iterator[Attempt]:
        """Yield an attempt on this generation, and a second one on the live one if it was dropped meanwhile."""
        attempt = Attempt(self, collection, self.router.search_params(collection))
        yield attempt
        if attempt.instead:
            yield Attempt(self, attempt.instead, None, last=True)


class Attempt:
    """One attempt at a question on one generation. On exit, ``instead`` is set if a second attempt is needed."""

    def __init__(
        self, index: Index, collection: str, search_params: dict[str, Any] | None, *, last: bool = False
    ) -> None:
        self.collection = collection
        self.instead: str | None = None
        """The collection that the alias points at now, if this attempt's collection was dropped."""
        self._index, self._search_params, self._last = index, search_params, last

    def pipeline(self, settings: Settings) -> Pipeline:
        """Return the pipeline with the question's ``settings``, and the generation's own where it fixes them.

        Raises ``SourceError`` when another ledger keeps the generation.
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
        """Suppress ``GoneError`` if the alias points at another generation now. Record other failures of the index."""
        if isinstance(error, GoneError):
            if not self._last and (live := self._index.store.resolve()) != self.collection:
                self.instead = live
            return self.instead is not None
        # A MisuseError is the question's fault and says nothing of the index.
        if isinstance(error, LockstepError) and not isinstance(error, MisuseError):
            self._index.router.note(self.collection, 0.0, None)
        return False
