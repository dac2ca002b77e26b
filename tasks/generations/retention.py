"""Drop generations that no rollback needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect import task

from tasks.crash_points import crash_point
from tasks.generations.claims import check_keeper, check_source
from tasks.generations.opening import follow_alias
from tasks.ledger.canary import canary_of
from tasks.ledger.database import now
from tasks.ledger.generations import Generation, forget_generation, generations
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.resources import Resources

MS_AN_HOUR = 3_600_000


def to_drop(known: Sequence[Generation], live: str | None, settings: Settings, at: int) -> list[Generation]:
    """Return the generations to drop, of ``known`` ones newest first, at a time in ms since 1970.

    Never the live one, nor one that is newer: it is being built, or waits to be promoted. Of those that were live
    the latest stay, ``keep_generations`` with the live one, and all that were live in the last ``keep_hours``. What
    was begun before the live one and never promoted goes after the same hours.
    """
    number = next((one.number for one in known if one.collection == live), None)
    if number is None:
        return []
    others = [one for one in known if one.collection != live and (one.retired_at or one.number < number)]
    latest = sorted((one for one in others if one.retired_at), key=lambda one: one.retired_at or 0, reverse=True)
    kept = {one.collection for one in latest[: settings.keep_generations - 1]}
    since = at - settings.keep_hours * MS_AN_HOUR
    return [one for one in others if one.collection not in kept and (one.retired_at or one.created_at) <= since]


@task(name="collect garbage", task_run_name="drop old generations of {alias}", **RETRIED)
def collect(resources: Resources, alias: str) -> list[str]:
    """Drop what :func:`to_drop` says; returns the collections. A run that dies is finished by the next.

    Raises ``SourceError`` before it drops what another ledger keeps: the address of Milvus may be another one since.
    """
    dropped: list[str] = []
    if now_live := resources.store.live():
        check_source(resources, now_live)
    live = follow_alias(resources)
    canary = canary_of(resources.ledger, alias)
    for one in to_drop(generations(resources.ledger, alias), live, resources.settings, now()):
        if canary and canary.collection == one.collection:  # it answers a share of the questions
            continue
        check_keeper(resources, one.collection)
        resources.store.drop(one.collection)
        crash_point("collection dropped")
        forget_generation(resources.ledger, one.collection)
        dropped.append(one.collection)
    return dropped
