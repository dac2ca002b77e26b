"""The pipelines that a service answers from, each with its connections open and threads of its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from deployments.server.errors import NoPipelineError, OverloadedError
from deployments.server.searching import Searching
from tasks.errors import LockstepError
from tasks.pipelines import PLACE, load_pipeline
from tasks.retrieval.routing import Connections

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

T = TypeVar("T")


class Closable(Protocol):
    """Connections."""

    def close(self) -> None:
        """Close them."""


C = TypeVar("C", bound=Closable)

FRESH_SECONDS = 5.0
"""How old a pipeline's settings may be; Prefect is asked beside the question, not before it."""
KNOWN_SECONDS, NEW_SECONDS = 10.0, 0.2
"""How old the list of pipelines may be, and how old when one is asked that is not in it."""
FAILED_SECONDS = 1.0
"""For how long a failure to connect answers the questions that come meanwhile."""
SEARCHES, ANSWERS = 16, 32
"""Threads of one pipeline: they wait for its Milvus and its chat model, and for no other's."""
ASKED_FOR_SECONDS = 5.0
"""How long Prefect is asked: the service has not the minutes of patience that a flow has."""
WAITING = 256
"""Questions of one pipeline that may wait; more are refused at once."""


class Opened(Generic[C]):
    """A pipeline as it was loaded, with open connections, which close when nobody uses them any more."""

    def __init__(self, pipeline: Pipeline, connections: C) -> None:
        self.pipeline, self.connections = pipeline, connections
        self._lock = threading.Lock()
        self._users, self._left = 0, False

    def enter(self) -> bool:
        """Count a user; returns whether it may still be used."""
        with self._lock:
            self._users += not self._left
            return not self._left

    def exit(self) -> None:
        """Count a user no more."""
        with self._lock:
            self._users -= 1
            last = self._left and not self._users
        if last:
            self.connections.close()

    def leave(self) -> None:
        """Close the connections once the last user is done."""
        with self._lock:
            self._left, idle = True, not self._users
        if idle:
            self.connections.close()


class OpenPipeline(Generic[C]):
    """A saved pipeline with the connections that somebody needs. What is saved since is taken over within seconds.

    ``connect`` opens the connections. It raises a ``LockstepError`` when it fails.
    """

    def __init__(self, name: str, connect: Callable[[Pipeline], C]) -> None:
        self.name, self._connect = name, connect
        self._lock = threading.Lock()
        self._opened: Opened[C] | None = None
        self._loaded = self._failed = float("-inf")
        self._failure: LockstepError | None = None
        self._refreshing = False

    @property
    def settings(self) -> Settings | None:
        """The pipeline's own settings as they are known; None before it was first used."""
        return self._opened.pipeline.settings if self._opened else None

    @contextmanager
    def using(self) -> Iterator[Opened[C]]:
        """Use the pipeline and its connections, which are opened by the first who does."""
        while not (opened := self._current()).enter():
            continue  # it was replaced just now
        try:
            yield opened
        finally:
            opened.exit()

    def _current(self) -> Opened[C]:
        opened = self._opened
        if opened is None:
            with self._lock:
                if self._opened is None:
                    self._open()
                opened = self._opened
        elif time.monotonic() - self._loaded > FRESH_SECONDS and not self._refreshing:
            self._refreshing = True
            threading.Thread(target=self._refresh, name=f"refresh {self.name}", daemon=True).start()
        assert opened is not None
        return opened

    def _open(self) -> None:
        if self._failure and time.monotonic() - self._failed < FAILED_SECONDS:
            raise self._failure
        try:
            pipeline = self._load()
            self._opened = Opened(pipeline, self._connect(pipeline))
        except LockstepError as error:
            self._failure, self._failed = error, time.monotonic()
            raise
        self._loaded = time.monotonic()

    def _load(self) -> Pipeline:
        with once():
            return load_pipeline(self.name)

    def _refresh(self) -> None:
        """Take over what was saved since. While Prefect is away, what is known holds."""
        try:
            pipeline = self._load()
            with self._lock:
                before = self._opened
                if before is None or pipeline == before.pipeline:
                    return
                same = all(getattr(pipeline, part) == getattr(before.pipeline, part) for part in PLACE)
                if same and pipeline.alias == before.pipeline.alias:
                    before.pipeline = pipeline
                    return
            after = Opened(pipeline, self._connect(pipeline))
            with self._lock:
                self._opened = after
            before.leave()
        except NoPipelineError:
            self.close()
        except Exception:  # noqa: BLE001 - Prefect is away or refuses; the next question tries again
            return
        finally:
            self._loaded = time.monotonic()
            self._refreshing = False

    def close(self) -> None:
        """Close the connections when the last user is done."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened:
            opened.leave()


class Served(OpenPipeline[Connections]):
    """One pipeline of a service, with threads for its questions."""

    def __init__(self, name: str) -> None:
        super().__init__(name, lambda pipeline: Connections(pipeline, shared=True))
        self.searches = ThreadPoolExecutor(SEARCHES, thread_name_prefix=f"search {name}")
        self.answers = ThreadPoolExecutor(ANSWERS, thread_name_prefix=f"answer {name}")
        self.waiting = {self.searches: 0, self.answers: 0}
        self.searching = Searching(name, lambda work: self.run(work, self.searches), WAITING)

    async def run(self, work: Callable[[Pipeline, Connections], T], threads: ThreadPoolExecutor) -> T:
        """Return what ``work`` returns, done in one of the pipeline's own threads.

        Raises ``OverloadedError`` when too many questions wait for one.
        """
        if self.waiting[threads] >= WAITING:
            raise OverloadedError(f"too many questions to '{self.name}' wait for an answer")
        self.waiting[threads] += 1
        try:
            within = contextvars.copy_context()  # the request's trace goes along
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, within.run, self._with_connections, work)
        finally:
            self.waiting[threads] -= 1

    def _with_connections(self, work: Callable[[Pipeline, Connections], T]) -> T:
        with self.using() as opened:
            return work(opened.pipeline, opened.connections)


class Pipelines:
    """All pipelines of a service: those that are saved in Prefect, loaded when they are first asked."""

    def __init__(self, default: str) -> None:
        self.default = default
        self._served: dict[str, Served] = {}
        self._names: tuple[str, ...] = (default,)
        self._known = self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def named(self, name: str | None) -> Served:
        """Return a pipeline by its name; the default one without a name. Raises ``NoPipelineError``."""
        wanted = name or self.default
        if wanted not in self._served and wanted not in await self.names(NEW_SECONDS):
            raise NoPipelineError.of(wanted)
        return self._served.setdefault(wanted, Served(wanted))

    async def names(self, seconds: float = KNOWN_SECONDS) -> tuple[str, ...]:
        """Return the names of all pipelines, no older than that; while Prefect is away, those that are known."""
        began = time.monotonic()
        if began - self._known > seconds:
            async with self._asking:
                if self._asked < began:  # who asked before may not have seen what this caller looks for
                    await self._ask()
        return self._names

    async def _ask(self) -> None:
        self._asked = time.monotonic()
        try:
            self._names = tuple(sorted({self.default, *await pipeline_names()}))
            self._known = self._asked
        except Exception:  # noqa: BLE001 - Prefect is away: what is known holds
            self._known = self._asked - KNOWN_SECONDS + FAILED_SECONDS

    @property
    def certain(self) -> bool:
        """Whether Prefect answered when it was last asked for the names."""
        return self._known >= self._asked

    @property
    def served(self) -> tuple[Served, ...]:
        """Those that were asked since the service started."""
        return tuple(self._served.values())

    def close(self) -> None:
        """Close all connections."""
        for served in self._served.values():
            served.searches.shutdown(wait=False, cancel_futures=True)
            served.answers.shutdown(wait=False, cancel_futures=True)
            served.close()


@contextmanager
def once() -> Iterator[None]:
    """Have Prefect's client ask once, for a few seconds."""
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ASKED_FOR_SECONDS}):
        yield


async def pipeline_names() -> list[str]:
    """Return the names under which pipelines are saved. Raises what Prefect's client raises."""
    from prefect.client.orchestration import get_client

    from blocks.pipeline import Pipeline

    with once():
        async with get_client() as client:
            slug = Pipeline.get_block_type_slug()
            documents = await client.read_block_documents_by_type(slug, include_secrets=False)
    return [document.name for document in documents if document.name]
