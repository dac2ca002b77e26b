"""Watch a pipeline's bucket: take in what changed, wait for a moment of quiet, and sync just that.

    receivers ──keys──▶ ledger ──▶ quiet for 0.3 s, or 2 s old? ──▶ one run of sync/<pipeline> for these keys

Notifications make it quick. The listing makes it right: a whole sync runs at the start, and on its schedule. One
watcher of a pipeline works, by a lease in the ledger; others receive too, and take over when it ends.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psutil
from prefect.exceptions import PrefectException

from deployments.watch.inbox import Inbox
from deployments.watch.poll import Poll
from deployments.watch.queues import receivers
from deployments.watch.runs import end_old_runs, run_sync
from flows.events import emit_caught_up, emit_lagging
from flows.work import KEYS_AT_ONCE
from tasks.bucket.listing import without_golden
from tasks.embedding.model import load_model
from tasks.errors import BusyError, DeletionError, FingerprintError, LockstepError, OutageError, TransientError
from tasks.ledger.changes import WHOLE_BUCKET, Change, forget_changes, lag_of, quiet_seconds, waiting_changes
from tasks.ledger.database import Database
from tasks.ledger.lease import end_lease, watch_of, writer_of, writing
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline, moved
from tasks.resources import keeping_parsers

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.environment import Environment
    from deployments.watch.receiver import Receiver
    from tasks.models import SyncReport

WATCHER = "the watcher "
QUIET_SECONDS = 0.3
OLDEST_SECONDS = 2.0
APART_SECONDS, BUSY_APART_SECONDS, MANY_RUNS = 0.5, 3.0, 30
"""The least seconds between two runs, and between those after many runs in a minute."""
ASKED_EVERY_SECONDS = 0.05
BUSY_SECONDS = 0.5
RELOADED_EVERY_SECONDS = 15.0
STAND_BY_SECONDS = 1.0
LAG_EVERY_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
MOST_BYTES = 300_000
"""Of the keys of one run, as JSON."""
BEGINS_AGAIN_SECONDS = 5.0
"""`lockstep up` saves the pipeline after it has started the parts."""

logger = logging.getLogger("lockstep.watch")


def own_name() -> str:
    """Return the name under which this process holds the lease of a watch."""
    return f"{WATCHER}{os.getpid()} on {socket.gethostname()}"


def due(quiet: tuple[float, float] | None, runs: Sequence[float]) -> bool:
    """Return whether waiting keys are to be synced now.

    ``quiet`` is for how long no key was named, and how long the oldest waits. ``runs`` are the ages of the runs of the
    last minute, in seconds. Each leaves rows in Prefect's history, so a stream of changes gets a run every few seconds.
    """
    if quiet is None:
        return False
    silent, oldest = quiet
    apart = BUSY_APART_SECONDS if len(runs) >= MANY_RUNS else APART_SECONDS
    return (silent >= QUIET_SECONDS or oldest >= OLDEST_SECONDS) and min(runs, default=apart) >= apart


def portion(changes: Sequence[Change]) -> list[Change]:
    """Return the first changes whose keys fit into the parameters of a run: Prefect takes half a megabyte."""
    size, some = 0, list[Change]()
    for change in changes:
        size += len(json.dumps(change.key)) + 2
        if some and size > MOST_BYTES:
            break
        some.append(change)
    return some


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, 2, 4 … 30."""
    return min(2.0 ** min(failures - 1, 20), LONGEST_PAUSE_SECONDS) if failures else 0.0


class Watcher:
    """Watches the bucket of one pipeline."""

    def __init__(self, pipeline: str, env: Environment) -> None:
        self.pipeline = pipeline
        self.stop = threading.Event()
        self.works = threading.Event()
        """Set when this watcher's turn has come, and the sync at the start is done."""
        self._env, self._lag_bound = env, env.watch_lag_seconds
        self._lags, self._looks_at_lag = False, -math.inf
        self._runs: deque[float] = deque(maxlen=MANY_RUNS)
        """When the last runs began."""
        self._failures = 0
        self._check: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Watch until ``stop`` is set. When the pipeline is saved with another bucket or ledger, begin anew."""
        with keeping_parsers():
            while not self.stop.is_set():
                try:
                    self._watch(load_pipeline(self.pipeline))
                except Exception as error:  # noqa: BLE001 - a watcher that ends is noticed too late
                    self._failed(error, "the watch cannot begin", BEGINS_AGAIN_SECONDS)

    def _watch(self, block: Pipeline) -> None:
        with ExitStack() as opened:
            ledger = opened.enter_context(Database(block.ledger))
            store = opened.enter_context(Store(block.store, block.alias))
            inbox = Inbox(ledger, block.alias, block.source)
            opened.enter_context(self._receiving(self._receivers(block, ledger, store, inbox)))
            if not self._take_turn(opened, ledger, block.alias):
                return
            if ended := end_old_runs(self.pipeline):
                logger.warning("%s runs of an earlier watcher were left unfinished. They are marked Crashed", ended)
            self._begin(block, store)
            self.works.set()
            logger.info("watching s3://%s/%s for '%s'", block.source.bucket, block.source.prefix, self.pipeline)
            self._work(block, ledger, store)

    def _take_turn(self, opened: ExitStack, ledger: Database, alias: str) -> bool:
        """Become the watcher that works, once no other does. Return False if ``stop`` is set before."""
        told = False
        while not self.stop.is_set():
            try:
                self._check = opened.enter_context(writing(ledger, watch_of(alias), own_name(), 0, logger.info))
            except BusyError as error:
                self._end_dead(ledger, alias)
                if not told:
                    logger.info("standing by: %s", error)
                told = True
                self.stop.wait(STAND_BY_SECONDS)
            else:
                return True
        return False

    def _end_dead(self, ledger: Database, alias: str) -> None:
        """End the lease of a watcher that was killed on this machine, rather than wait until it ends by itself."""
        holder = writer_of(ledger, watch_of(alias)) or ""
        pid, _, host = holder.removeprefix(WATCHER).partition(" on ")
        if host == socket.gethostname() and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            end_lease(ledger, watch_of(alias), holder)

    def _begin(self, block: Pipeline, store: Store) -> None:
        """Sync the whole bucket, for what nobody told of, and load the model before the first change needs it.

        The first build of all is left to the schedule or a person.
        """
        load_model(block.embedder)
        try:
            if store.live():
                self._sync(None)
        except Exception as error:  # noqa: BLE001 - a watcher that ends is noticed too late
            self._failed(error, "the sync at the start did not come through, the schedule's will")

    def _receivers(self, block: Pipeline, ledger: Database, store: Store, inbox: Inbox) -> list[Receiver]:
        made = receivers(self._env, inbox)
        if seconds := self._env.polls_seconds:
            source = without_golden(block.source, block.settings.golden)
            client = block.source.get_client()
            made.append(Poll(client, source, ledger, store, inbox, seconds, self._env.watch_poll_share))
        return made

    @contextmanager
    def _receiving(self, receivers: Sequence[Receiver]) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=receiver.run, args=[stop], name=receiver.name, daemon=True)
            for receiver in receivers
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(5.0)

    def _work(self, block: Pipeline, ledger: Database, store: Store) -> None:
        """Sync what waits, until the pipeline is saved with another bucket, index or ledger."""
        looked = time.monotonic()
        while not self.stop.wait(ASKED_EVERY_SECONDS):
            if self._lost():
                return
            try:
                if time.monotonic() - looked > RELOADED_EVERY_SECONDS:
                    looked = time.monotonic()
                    if changed := moved(block, load_pipeline(self.pipeline)):
                        logger.info("the pipeline was saved with another %s: beginning anew", ", ".join(changed))
                        return
                self._look_at_lag(block, ledger, store)
                if due(quiet_seconds(ledger, block.alias), self._ages()):
                    self._serve(block, ledger, store)
            except Exception as error:  # noqa: BLE001 - a watcher that ends is noticed too late
                self._failed(error, "what changed waits")

    def _lost(self) -> bool:
        """Return whether another watcher has taken over, as after a long sleep of the machine."""
        try:
            self._check()
        except TransientError:
            return False  # the ledger is away, and the lease may still hold
        except LockstepError:
            logger.warning("another watcher has taken over. This one stands by")
            return True
        return False

    def _look_at_lag(self, block: Pipeline, ledger: Database, store: Store) -> None:
        """Tell Prefect once when the lag crosses its bound, either way."""
        if time.monotonic() < self._looks_at_lag:
            return
        self._looks_at_lag = time.monotonic() + LAG_EVERY_SECONDS
        if not (live := store.live()):
            return
        seconds = lag_of(ledger, block.alias, live).seconds
        lags = seconds > self._lag_bound
        if lags != self._lags:
            self._lags = lags
            (emit_lagging if lags else emit_caught_up)(self.pipeline, seconds, self._lag_bound)
            logger.warning("the index is %.0f s behind the bucket (the bound is %.0f s)", seconds, self._lag_bound)

    def _serve(self, block: Pipeline, ledger: Database, store: Store) -> None:
        live = store.live()
        if live is None or writer_of(ledger, live):  # a whole sync serves what waits, or is the first
            self.stop.wait(BUSY_SECONDS)
            return
        changes = portion(waiting_changes(ledger, block.alias, KEYS_AT_ONCE))
        keys = [change.key for change in changes]
        try:
            if self._sync(None if WHOLE_BUCKET in keys else keys) is None:  # another whole sync stands in line
                self.stop.wait(BUSY_SECONDS)
                return
        except (OutageError, FingerprintError, DeletionError) as error:
            # The work is recorded, and whole syncs go on with it, at the pace at which failures are judged.
            logger.warning("what changed is left to the next whole sync: %s", error)
        forget_changes(ledger, block.alias, changes)

    def _sync(self, keys: Sequence[str] | None) -> SyncReport | None:
        self._runs.append(time.monotonic())
        report = run_sync(self.pipeline, keys)
        self._failures = 0
        return report

    def _ages(self) -> list[float]:
        now = time.monotonic()
        return [age for began in self._runs if (age := now - began) < 60]

    def _failed(self, error: Exception, what: str, longest: float = LONGEST_PAUSE_SECONDS) -> None:
        self._failures += 1
        pause = min(pause_after(self._failures), longest)
        told = isinstance(error, (LockstepError, PrefectException, OSError))
        logger.warning("%s, again in %.0f s: %s", what, pause, error, exc_info=None if told else error)
        self.stop.wait(pause)
