"""Which generation a question goes to: the live one, or the one in canary."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import GoneError, LockstepError, MisuseError
from tasks.generations.claims import check_asked, source_kept
from tasks.generations.fingerprint import built_with, with_settings_of
from tasks.ledger.canary import Canary, canary_of, note_question
from tasks.ledger.database import Database, now
from tasks.ledger.generations import generation_of, recorded_sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks.pipeline import Pipeline
    from tasks.milvus.store import Store


class Router:
    """What who asks has to know of a canary, looked up once; and where it notes how its questions fared.

    Questions are answered also while the ledger is down: then by the live generation, and not noted.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.alias, self._block = pipeline.alias, pipeline.ledger
        self.canary: Canary | None = None
        self.sources: dict[str, dict[str, Any] | None] | None = None
        """Which bucket each generation holds, as far as the ledger knows; None while it does not answer."""
        self._search_params: dict[str, Any] | None = None
        with suppress(LockstepError):
            self._with_ledger(self._look)

    def _look(self, ledger: Database) -> None:
        self.sources = recorded_sources(ledger, self.alias)
        if found := canary_of(ledger, self.alias):
            known = generation_of(ledger, self.alias, found.collection)
            self._search_params = known.search_params if known else None
            self.canary = found

    def collection(self, live: str, asker: str) -> str:
        """Return what answers this question or session: the live collection, or the one in canary."""
        # A canary beside another live generation is over: the alias was moved.
        return self.canary.serves(asker) if self.canary and self.canary.live == live else live

    def search_params(self, collection: str) -> dict[str, Any] | None:
        """Return what the collection in canary is searched with; None for any other, whose pipeline has them."""
        return self._search_params if self.canary and self.canary.collection == collection else None

    def note(self, collection: str, seconds: float, best: float | None, abstained: bool = False) -> None:
        """Note how a question fared: ``best`` is the nearest chunk's cosine, None when it failed."""
        if self.canary:
            row = {"alias": self.alias, "collection": collection, "at": now(), "seconds": seconds, "best": best}
            with suppress(LockstepError):
                self._with_ledger(note_question, {**row, "abstained": abstained, "failed": best is None})

    def _with_ledger(self, call: Any, *args: Any) -> Any:
        ledger = Database(self._block)
        try:
            return call(ledger, *args)
        finally:
            ledger.engine.dispose()


Result = TypeVar("Result")


def on_live(
    store: Store, pipeline: Pipeline, query: Callable[[str, Pipeline], Result], watch: Router, asker: str = ""
) -> Result:
    """Run a query on the live generation, or on the one in canary, with the pipeline as that was built.

    The alias is resolved once, so that the answer comes from one generation; should that be dropped meanwhile,
    it is resolved once more. ``asker``, the question or its session, decides for a canary.
    """
    live = store.resolve()
    collection = watch.collection(live, asker)

    def ask(collection: str, search_params: dict[str, Any] | None) -> Result:
        check_asked(pipeline, collection, source_kept(store, collection), watch.sources)
        return query(collection, with_settings_of(pipeline, built_with(store, collection), search_params))

    try:
        return ask(collection, watch.search_params(collection))
    except GoneError:
        again = store.resolve()
        if again == collection:
            raise
        return ask(again, None)
    except MisuseError:  # the question's fault, not the generation's
        raise
    except LockstepError:
        watch.note(collection, 0.0, None)
        raise
