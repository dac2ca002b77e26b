"""Drop generations that are not kept for a rollback."""

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
    """Return the generations to drop, out of the ``known`` ones. ``at`` is the time in ms since 1970.

    The live generation stays, and so does an unpromoted newer one, which is being built or waits for promotion. Of
    those that were live, the latest stay: ``keep_generations`` in all with the live one, and all that were live in the
    last ``keep_hours``. One that is older than the live one and was never promoted is dropped after the same hours.
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
    """Drop the generations of :func:`to_drop` and return their collections. The next run finishes one that died.

    Raises ``SourceError`` before it drops a generation that another ledger keeps: the address of Milvus may have
    changed.
    """
    dropped: list[str] = []
    if now_live := resources.store.live():
        check_source(resources, now_live)
    live = follow_alias(resources)
    canary = canary_of(resources.ledger, alias)
    for one in to_drop(generations(resources.ledger, alias), live, resources.settings, now()):
        if canary and canary.collection == one.collection:  # a canary answers a share of the questions
            continue
        check_keeper(resources, one.collection)
        resources.store.drop(one.collection)
        crash_point("collection dropped")
        forget_generation(resources.ledger, one.collection)
        dropped.append(one.collection)
    return dropped
