"""Bring some keys in step with the bucket, in one run without task runs: what a notification starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from flows.prefect_runs import plainly, rename_run
from flows.work import begin, catch_up, delete_all_the_same, judge, summary
from tasks.errors import BusyError, FingerprintError
from tasks.generations.opening import generation
from tasks.indexing.finish import MANY, flush, quarantine_failures
from tasks.indexing.outcome import Tally
from tasks.indexing.plan_keys import plan_keys
from tasks.ledger.canary import canary_of
from tasks.models import SyncReport
from tasks.resources import Consent, connect
from tasks.retries import patiently
from tasks.sanitize import inert
from tasks.task_runs import run_logger

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from tasks.resources import Resources

CHANGES_SHOWN = 20


def sync_keys(
    name: str, block: Pipeline, keys: Sequence[str], consent: Consent, into: str | None, *, as_saved: bool
) -> SyncReport | None:
    """Bring some keys in step. Return a report, or None if nothing answers yet: the first sync takes the whole bucket.

    Work that the ledger has recorded for other keys is left alone. Raises what a sync of the whole bucket raises.
    """
    described = f"sync of {len(keys):,} keys of '{block.alias}' ({flow_run.name})"
    with plainly(connect)(block, flow_run.id or "", consent) as resources:
        if into is None and patiently(resources.store.live)() is None:
            return None
        report = _sync_into(resources, name, keys, into, described, as_saved=as_saved)
        if into is None:
            _sync_canary(resources, name, keys, report.collection, described)
    return report


def _sync_into(
    resources: Resources,
    name: str,
    keys: Sequence[str],
    into: str | None,
    described: str,
    *,
    as_saved: bool,
    wait: float = 300.0,
) -> SyncReport:
    started = time.monotonic()
    lease = partial(resources.writing, described=described, wait_seconds=wait)
    with ExitStack() as work:
        try:
            collection = begin(work, resources, into, as_saved, lease, plainly(generation))
        except FingerprintError as error:
            alone = into is not None
            with ExitStack() as line:
                delete_all_the_same(resources, error.collection, lease, line, alone=alone, keys=keys)
            raise
        todo = plan_keys(resources, collection, keys)
        if into is None:
            rename_run(f"sync {collection}: {todo} of {len(keys):,} keys")
        done = Tally(todo.new + todo.changed)
        catch_up(resources, collection, done, described, alone=into is not None, keys=keys)
        quarantined = judge(resources, name, collection, plainly(quarantine_failures))
        if done.chunks_embedded + done.chunks_reused >= MANY:
            plainly(flush)(resources, collection)
    for stage, key, chunks in done.changes[:CHANGES_SHOWN]:
        run_logger().info("%s: '%s'%s", stage, inert(key), f", {chunks:,} chunks" if chunks else "")
    return summary(collection, todo, done, quarantined, time.monotonic() - started)


def _sync_canary(resources: Resources, name: str, keys: Sequence[str], live: str, described: str) -> None:
    """Bring the keys in step in the generation in canary too, since it answers a share of the questions."""
    canary = patiently(canary_of)(resources.ledger, resources.store.alias)
    if canary is None or canary.live != live or canary.collection == live:
        return
    try:
        _sync_into(resources, name, keys, canary.collection, described, as_saved=True, wait=0.0)
    except BusyError as error:
        run_logger().warning("the generation in canary gets these keys with its next sync: %s", error)
