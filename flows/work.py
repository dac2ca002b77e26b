"""The work of a sync: take the generation, then work off what the ledger has recorded for it, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from prefect.runtime import flow_run

from flows.events import NAMED, emit_quarantined
from flows.index_wave import Wave, run_plainly, run_wave
from flows.prefect_runs import rename_run, without_heartbeat
from tasks.errors import DeletionError, LockstepError
from tasks.generations.claims import check_source
from tasks.generations.opening import generation
from tasks.indexing.batches import Pace, Stage, batched, recorded, waves
from tasks.indexing.finish import quarantine_failures
from tasks.indexing.outcome import Tally
from tasks.indexing.plan import Plan, check_moved, plan
from tasks.indexing.plan_keys import plan_keys
from tasks.ledger.canary import canary_of
from tasks.ledger.changes import WHOLE_BUCKET, forget_changes, waiting_changes
from tasks.ledger.lease import watch_of, writer_of
from tasks.ledger.quarantine import new_failures
from tasks.listeners import Silent
from tasks.models import SyncReport
from tasks.pipelines import still_saved
from tasks.retries import patiently
from tasks.task_runs import run_logger

if TYPE_CHECKING:
    from tasks.resources import Resources

Keys = Sequence[str] | None
"""The keys that a sync is limited to. None is the whole bucket."""
KEYS_AT_ONCE = 512


def nobody_waits() -> bool:
    """Serve nobody between two waves."""
    return False


def begin(
    work: ExitStack,
    resources: Resources,
    into: str | None,
    as_saved: bool,
    lease: Callable[..., Any],
    opened: Callable[..., str] = generation,
) -> str:
    """Return the collection to write to, and hold its lease until ``work`` is closed.

    The alias may move while this run waits for the writer before it, so the live collection is looked up again.
    Raises ``ChangedError`` when the pipeline names another bucket, index or ledger by then.
    """
    while True:
        collection = opened(resources, resources.store.alias, into, as_saved)
        with ExitStack() as mine:
            mine.enter_context(lease(collection))
            still_saved(resources.pipeline)
            if into or patiently(resources.store.live)() in (None, collection):
                work.enter_context(mine.pop_all())
                return collection


def catch_up(
    resources: Resources,
    collection: str,
    done: Tally,
    described: str,
    *,
    alone: bool,
    keys: Keys = None,
    show: Callable[[Tally], None] = lambda _done: None,
) -> None:
    """Do the recorded work, or that for some ``keys``: renamed objects first, then deletions, then the rest.

    Calls ``show`` after each wave.

    Deletions are done even if renamed objects fail. They are done in the generation in canary too, unless this one is
    written ``alone``. Otherwise keys that notifications named are served between two waves.
    """
    serve = Waiting(resources, collection, described).serve if keys is None and not alone else nobody_waits

    def delete() -> None:
        work_off(resources, collection, "deleted", done, keys, serve, show)
        if not alone:
            delete_in_canary(resources, collection, described, keys)

    try:
        work_off(resources, collection, "renamed", done, keys, serve, show)
    except Exception:
        with suppress(DeletionError):
            delete()
        raise
    delete()
    work_off(resources, collection, "written", done, keys, serve, show)


def delete_in_canary(resources: Resources, live: str, described: str, keys: Keys = None) -> None:
    """Delete objects, or some of them, from the generation in canary too, since it answers a share of the questions.

    Errors are only logged. The canary's own sync follows that of the live generation and raises them again.
    """
    logger = run_logger()
    try:
        canary = patiently(canary_of)(resources.ledger, resources.store.alias)
        if canary and canary.live == live != canary.collection:
            with resources.writing(canary.collection, described, 0):
                check_source(resources, canary.collection)
                delete_gone(resources, canary.collection, keys)
    except LockstepError as error:
        logger.warning("deleted objects may still be in the generation in canary: %s", error)


def delete_all_the_same(
    resources: Resources,
    collection: str,
    lease: Callable[..., Any],
    line: ExitStack,
    *,
    alone: bool,
    keys: Keys = None,
) -> None:
    """Carry out deletions in a generation that was built with other settings. Deletions do not depend on them."""
    if not collection:
        return
    with lease(collection):
        line.close()
        still_saved(resources.pipeline)
        gone = delete_gone(resources, collection, keys)
        rename_run(f"sync {collection}: refused, but for {gone} deletions")
        if not alone:
            delete_in_canary(resources, collection, f"deletions ({flow_run.name})", keys)


def delete_gone(resources: Resources, collection: str, keys: Keys = None) -> int:
    """Delete objects from a generation that the bucket no longer has, or some of them. Return their number.

    All other work is only recorded.
    """
    shown, resources.progress = resources.progress, Silent()
    try:
        todo = plan(resources, collection, again=False) if keys is None else plan_keys(resources, collection, keys)
        if todo.doubtful:
            todo = todo.with_those(plan_keys(resources, collection, todo.doubtful))
        work_off(resources, collection, "deleted", Tally(), keys)
    finally:
        resources.progress = shown
    return todo.deleted


def work_off(
    resources: Resources,
    collection: str,
    stage: Stage,
    done: Tally,
    keys: Keys = None,
    serve: Callable[[], bool] = nobody_waits,
    show: Callable[[Tally], None] = lambda _done: None,
) -> None:
    """Carry out the work that the ledger has recorded for a stage, wave by wave, and add it to the tally.

    Calls ``serve`` after each wave. If that changed what is recorded, the rest is read anew: what was read before may
    be about versions that are no longer wanted. Raises ``DeletionError`` before deleting too many objects that were
    moved to keys that cannot be read.
    """
    if stage == "deleted":
        check_moved(resources, collection, keys)
    number, again = 0, True
    while again:
        again, pace = False, Pace()
        serve()
        most = pace.most if is_watched(resources) else None
        batches = batched(recorded(resources.ledger, collection, stage, keys), resources.settings)
        for wave in waves(batches, resources.settings, most):
            number, began, work = number + 1, time.monotonic(), Wave(resources, collection, wave, done)
            if keys is None:
                with without_heartbeat():
                    run_wave(stage, number, work)
            else:
                run_plainly(stage, work)
            done.check(resources.settings)
            pace.took(len(wave), time.monotonic() - began)
            show(done)
            if again := serve():
                break


def is_watched(resources: Resources) -> bool:
    """Return whether a watcher works for the pipeline: then waves are short, and keys are served in between."""
    return patiently(writer_of)(resources.ledger, watch_of(resources.store.alias)) is not None


class Waiting:
    """Serves keys that notifications named in the middle of a long sync, so that small changes do not wait for it."""

    def __init__(self, resources: Resources, collection: str, described: str) -> None:
        self._resources, self._collection, self._described = resources, collection, described
        self._failed = False

    def serve(self) -> bool:
        """Work off some of the keys, if somebody watches. Return whether the recorded work may have changed.

        What goes wrong with these keys stops nothing else: they are left to the watcher, and so are all others. Raises
        ``LockstepError`` if this run is no longer the writer.
        """
        ledger, alias = self._resources.ledger, self._resources.store.alias
        if self._failed or not is_watched(self._resources):
            return False
        waiting = patiently(waiting_changes)(ledger, alias, KEYS_AT_ONCE)
        changes = [change for change in waiting if change.key != WHOLE_BUCKET]
        if not changes:
            return False
        keys = [change.key for change in changes]
        try:
            todo = plan_keys(self._resources, self._collection, keys)
            tally = Tally(todo.new + todo.changed)
            catch_up(self._resources, self._collection, tally, self._described, alone=False, keys=keys)
        except LockstepError as error:
            self._resources.check_writer()
            self._failed = True
            run_logger().warning("%s keys that notifications named are left to the watcher: %s", len(keys), error)
            return True
        patiently(forget_changes)(ledger, alias, changes)
        run_logger().info("%s keys that notifications named in between: %s", f"{len(keys):,}", todo)
        return True


def judge(resources: Resources, pipeline: str, collection: str, judged: Callable[..., int] | None = None) -> int:
    """Quarantine the failed objects of this run, and tell Prefect of those that are new there. Return their number.

    ``judged`` does the first instead of the task.
    """
    new = patiently(new_failures)(resources.ledger, collection, resources.flow_run_id, NAMED)
    quarantined = (judged or quarantine_failures)(resources, collection)
    emit_quarantined(pipeline, collection, *new)
    return quarantined


def summary(collection: str, todo: Plan, done: Tally, quarantined: int, seconds: float) -> SyncReport:
    """Return the report of a sync."""
    return SyncReport(
        collection=collection,
        new=todo.new,
        changed=todo.changed,
        deleted=todo.deleted,
        unchanged=todo.unchanged,
        quarantined=quarantined,
        moved_on=done.moved_on,
        left_out=todo.left_out,
        left_out_named=todo.named,
        chunks_embedded=done.chunks_embedded,
        chunks_reused=done.chunks_reused,
        chunks_deleted=done.chunks_deleted,
        seconds=round(seconds, 3),
        flow_run_id=flow_run.id or "",
    )
