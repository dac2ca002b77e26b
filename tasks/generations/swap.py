"""Point the alias at another generation, and update the ledger and the pipeline after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.errors import FingerprintError, MisuseError
from tasks.generations.claims import check_source
from tasks.generations.deletion_limit import stop
from tasks.generations.fingerprint import check, differences, ingredients, with_settings_of
from tasks.generations.opening import finish_swap, follow_alias
from tasks.ledger.canary import canary_of
from tasks.ledger.generations import Generation, generations, ingredients_of, mark_ready
from tasks.ledger.objects import count_answering
from tasks.models import Loss
from tasks.retries import patiently
from tasks.task_runs import RETRIED

if TYPE_CHECKING:
    from tasks.resources import Resources


@task(name="choose generation", task_run_name="choose the generation to promote", **RETRIED)
def to_promote(resources: Resources, number: int | None = None) -> tuple[Generation, str | None]:
    """Return the generation to promote and the live collection. Without a number it is the newest ready one.

    Raises ``MisuseError`` if there is no such generation, or it is not ready.
    """
    live = resources.store.live()
    if live:
        check_source(resources, live)
    known = generations(resources.ledger, resources.store.alias)
    if number is None:
        newer_than = next((one.number for one in known if one.collection == live), 0)
        ready = [one for one in known if one.state(live) == "ready" and one.number > newer_than]
        if not ready:
            raise MisuseError(
                f"no generation of '{resources.store.alias}' is ready to be promoted. `lockstep rebuild` builds one."
            )
        return ready[0], live
    chosen = numbered(resources, number)
    if chosen.state(live) != "ready":
        raise MisuseError(
            f"{chosen.collection} is {chosen.state(live)}, not ready to be promoted. "
            + ("`lockstep rollback` rolls back to it." if chosen.state(live) == "retired" else "Nothing was changed.")
        )
    return chosen, live


@task(name="choose generation", task_run_name="choose the generation to go back to", **RETRIED)
def to_go_back_to(resources: Resources, number: int | None = None, force: bool = False) -> tuple[str, str | None]:
    """Return the collection to roll back to, and the one to leave.

    During a canary, and without a number, it is the live generation. Otherwise it is that number, or the generation
    that was live before. Raises ``MisuseError`` if there is none. Raises ``FingerprintError``, unless ``force``, if no
    sync could write to it.
    """
    live = follow_alias(resources)
    if live:
        check_source(resources, live)
    canary = canary_of(resources.ledger, resources.store.alias)
    if canary and canary.live == live and number is None:
        return canary.live, canary.collection
    known = generations(resources.ledger, resources.store.alias)
    retired = [one for one in known if one.state(live) == "retired" and resources.store.exists(one.collection)]
    if number is not None:
        chosen = numbered(resources, number)
        if chosen not in retired:
            raise MisuseError(f"{chosen.collection} is {chosen.state(live)}, so no rollback to it is possible.")
    elif not retired:
        raise MisuseError(f"'{resources.store.alias}' has nothing to roll back to: no earlier generation is kept.")
    else:
        chosen = max(retired, key=lambda one: (one.retired_at or 0, one.number))
    if not force:
        check_can_be_kept(resources, chosen)
    return chosen.collection, live


def check_can_be_kept(resources: Resources, chosen: Generation) -> None:
    """Raise ``FingerprintError`` if another version of Lockstep built a generation: no sync would write to it."""
    now = ingredients(with_settings_of(resources.pipeline, chosen.ingredients))
    if changed := differences(chosen.ingredients, now):
        raise FingerprintError(
            f"{chosen.collection} was built by another version of Lockstep ({'; '.join(changed)}). This one could only "
            "delete from it, so it would become outdated. Nothing was changed. `lockstep rebuild` builds a new one "
            "with the settings that you choose. --force rolls back all the same.",
            chosen.collection,
        )


def numbered(resources: Resources, number: int) -> Generation:
    """Return the generation with a number. Raises ``MisuseError`` with the existing numbers if there is none."""
    known = generations(resources.ledger, resources.store.alias)
    for one in known:
        if one.number == number:
            return one
    numbers = ", ".join(str(one.number) for one in known) or "none"
    raise MisuseError(f"'{resources.store.alias}' has no generation {number}; it has {numbers}.")


@patiently
def nothing_answers(resources: Resources) -> bool:
    """Return whether the alias does not exist yet."""
    return resources.store.live() is None


@task(name="swap", task_run_name="point the alias at {collection}", **RETRIED)
def swap(resources: Resources, collection: str) -> None:
    """Point the alias at a collection in one call, then update the pipeline and the ledger."""
    move_alias(resources, collection)


@task(name="swap", task_run_name="point the alias at {collection}, the first", **RETRIED)
def publish(resources: Resources, collection: str) -> None:
    """Make the first generation live, now that it holds the whole bucket.

    Raises ``FingerprintError`` if another first sync, with other settings, finished before. Raises ``DeletionError`` if
    the alias was lost and so many objects of the former live generation are missing that consent is needed.
    """
    with resources.writing(resources.store.alias, "a first sync", resources.settings.wait_for_writer_seconds):
        live = resources.store.live()
        if live is None:
            check_size(resources, collection)
            mark_ready(resources.ledger, collection)
            move_alias(resources, collection)
        elif live != collection:
            check_source(resources, live)
            check(live, ingredients_of(resources.ledger, live) or {}, ingredients(resources.pipeline))


def check_size(resources: Resources, collection: str) -> None:
    """Raise ``DeletionError`` if more objects would be missing than is allowed without consent: a wrong listing."""
    known = generations(resources.ledger, resources.store.alias)
    last = next((one.collection for one in known if one.settled and one.collection != collection), None)
    if last and not resources.consent.allow_deletions:
        before, now = count_answering(resources.ledger, last), count_answering(resources.ledger, collection)
        stop(last, Loss(before, max(before - now, 0), now), resources.pipeline.source, resources.settings)


def move_alias(resources: Resources, collection: str) -> None:
    """Point the alias at a collection in one call, then update the pipeline and the ledger."""
    resources.store.load(collection)
    resources.store.point_alias(collection)
    finish_swap(resources, collection)
