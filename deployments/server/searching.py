"""Make searches that wait at the same time together: one look at the alias and the ledger, one call of Milvus."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.server.errors import OverloadedError
from tasks import traces
from tasks.retrieval.batch_search import Found, search_together

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from blocks.pipeline import Pipeline
    from tasks.retrieval.batch_search import Result
    from tasks.retrieval.question import Question
    from tasks.retrieval.routing import Connections
    from tasks.retrieval.scope import Scope

    Work = Callable[[Pipeline, Connections], None]

MOST_QUESTIONS = 64
"""In one group."""
LEAST_SECONDS, MOST_SECONDS = 0.01, 1.0
"""How long the next group waits at least for the search of the one before, and at most for whatever that one does. It
may load a model, or wait for a ledger that hangs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What searches have to share to be made together: the settings that they replace, by name, and their scope."""

    settings: tuple[tuple[str, Any], ...]
    scope: Scope


@dataclass(slots=True)
class Waiting:
    """A search that waits: its question, what its result goes to, and its place in a trace."""

    question: Question
    found: asyncio.Future[Found]
    place: Context


class Searching:
    """The searches of one pipeline. ``run`` does a piece of work in a thread, with the pipeline and its connections.

    At most ``most`` wait or are under way; more are refused at once.

    A search begins at once when none of its kind is under way. What comes meanwhile waits, and goes together: one
    forward pass and one call for many cost little more than for one. Only a search that takes longer than the
    embedding before it, as with a Milvus that is far away, does not hold up the next group, and nothing does for long.
    """

    def __init__(self, name: str, run: Callable[[Work], Awaitable[None]], most: int) -> None:
        self._name, self._run, self._most = name, run, most
        self._asked = 0
        self._waiting: dict[Kind, deque[Waiting]] = {}
        self._held: dict[Kind, object] = {}
        """The kinds of which a group is under way that holds up the next, with that group's mark."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def search(self, question: Question, kind: Kind) -> Found:
        """Return what a question finds. Raises ``OverloadedError`` when too many wait, and what the search raises."""
        if self._asked >= self._most:
            raise OverloadedError(f"too many questions to '{self._name}' wait for an answer")
        self._asked += 1
        try:
            return await self._begun(question, kind)
        finally:
            self._asked -= 1

    def _begun(self, question: Question, kind: Kind) -> asyncio.Future[Found]:
        """Begin a search, and return what its result goes to."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(Waiting(question, found, traces.here()))
        self._begin(kind)
        return found

    def _begin(self, kind: Kind) -> None:
        """Begin a group of a kind, if some wait and no group holds them up."""
        if kind in self._held or kind not in self._waiting:
            return
        mark = self._held[kind] = object()
        task = asyncio.create_task(self._search(kind, mark))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _taken(self, kind: Kind) -> list[Waiting]:
        """Take the group that is searched next. Who has gone is not searched for."""
        waiting = self._waiting[kind]
        group = [waiting.popleft() for _ in range(min(MOST_QUESTIONS, len(waiting)))]
        if not waiting:
            del self._waiting[kind]
        return [one for one in group if not one.found.done()]

    def _let_go(self, kind: Kind, mark: object) -> None:
        """Let the next group of a kind begin, unless it was let begin before."""
        if self._held.get(kind) is mark:
            del self._held[kind]
            self._begin(kind)

    async def _search(self, kind: Kind, mark: object) -> None:
        """Search for a group, and hand its results out."""
        loop, group = asyncio.get_running_loop(), self._taken(kind)
        loop.call_later(MOST_SECONDS, self._let_go, kind, mark)

        def embedded(seconds: float) -> None:
            patience = min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
            loop.call_soon_threadsafe(loop.call_later, patience, self._let_go, kind, mark)

        def tell(results: Mapping[int, Result]) -> None:
            loop.call_soon_threadsafe(_hand_out, [(group[at], result) for at, result in results.items()])

        def work(pipeline: Pipeline, connections: Connections) -> None:
            settings = pipeline.settings.model_copy(update=dict(kind.settings))
            questions = [one.question for one in group]
            with traces.together([one.place for one in group]):
                search_together(pipeline, questions, settings, connections, kind.scope, tell, embedded)

        try:
            if group:
                await self._run(work)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            _hand_out([(one, error) for one in group])
        self._let_go(kind, mark)


def _hand_out(results: Sequence[tuple[Waiting, Found | BaseException]]) -> None:
    """Give results to those who still wait for one."""
    for one, result in results:
        if one.found.done():
            continue
        if isinstance(result, Found):
            one.found.set_result(result)
        else:
            one.found.set_exception(result)
