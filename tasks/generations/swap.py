"""Point the alias at another generation, and let ledger and pipeline follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.errors import FingerprintError, MisuseError
from tasks.generations.claims import check_source
from tasks.generations.deletion_limit import stop
from tasks.generations.fingerprint import as_built, check, differences, ingredients
from tasks.generations.opening import finish_swap, follow_alias
from tasks.ledger.canary import canary_of
from tasks.ledger.generations import Generation, generations, mark_ready
from tasks.models import Loss
from tasks.retries import RETRIED, patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.resources import Tools


@task(name="choose generation", task_run_name="choose the generation to promote", **RETRIED)
def to_promote(tools: Tools, number: int | None = None) -> tuple[Generation, str | None]:
    """Return the generation to promote, that number or the newest one that is ready, and the live collection.

    Raises ``MisuseError`` when there is none, or when it is not ready.
    """
    live = tools.store.live()
    if live:
        check_source(tools, live)
    known = generations(tools.ledger, tools.store.alias)
    if number is None:
        newer_than = next((one.number for one in known if one.collection == live), 0)
        ready = [one for one in known if one.state(live) == "ready" and one.number > newer_than]
        if not ready:
            raise MisuseError(
                f"no generation of '{tools.store.alias}' is ready to be promoted: `lockstep rebuild` builds one."
            )
        return ready[0], live
    chosen = numbered(tools, number)
    if chosen.state(live) != "ready":
        raise MisuseError(
            f"{chosen.collection} is {chosen.state(live)}, not ready to be promoted. "
            + ("`lockstep rollback` goes back to it." if chosen.state(live) == "retired" else "Nothing was changed.")
        )
    return chosen, live


@task(name="choose generation", task_run_name="choose the generation to go back to", **RETRIED)
def to_go_back_to(tools: Tools, number: int | None = None, force: bool = False) -> tuple[str, str | None]:
    """Return the collection to go back to, and the one to leave.

    From a canary to the live generation, which is live already; else to that number, or the one that was live before.
    Raises ``MisuseError`` when there is none, ``FingerprintError``, unless ``force``, when no sync could write to it.
    """
    live = follow_alias(tools)
    if live:
        check_source(tools, live)
    going = canary_of(tools.ledger, tools.store.alias)
    if going and going.live == live and number is None:
        return going.live, going.collection
    known = generations(tools.ledger, tools.store.alias)
    retired = [one for one in known if one.state(live) == "retired" and tools.store.exists(one.collection)]
    if number is not None:
        chosen = numbered(tools, number)
        if chosen not in retired:
            raise MisuseError(f"{chosen.collection} is {chosen.state(live)}, not one to go back to.")
    elif not retired:
        raise MisuseError(f"'{tools.store.alias}' has nothing to go back to: no earlier generation is kept.")
    else:
        chosen = max(retired, key=lambda one: (one.retired_at or 0, one.number))
    if not force:
        check_can_be_kept(tools, chosen)
    return chosen.collection, live


def check_can_be_kept(tools: Tools, chosen: Generation) -> None:
    """Raise ``FingerprintError`` when another version of Lockstep built a generation: no sync would write to it."""
    now = ingredients(as_built(tools.pipeline, chosen.ingredients))
    if changed := differences(chosen.ingredients, now):
        raise FingerprintError(
            f"{chosen.collection} was built by another version of Lockstep ({'; '.join(changed)}): this one could only "
            "delete from it, so that it would grow old. Nothing was changed. `lockstep rebuild` builds a new one with "
            "the settings that you choose; --force goes back all the same.",
            chosen.collection,
        )


def numbered(tools: Tools, number: int) -> Generation:
    """Return the generation with a number. Raises ``MisuseError`` naming those that there are."""
    known = generations(tools.ledger, tools.store.alias)
    for one in known:
        if one.number == number:
            return one
    numbers = ", ".join(str(one.number) for one in known) or "none"
    raise MisuseError(f"'{tools.store.alias}' has no generation {number}; it has {numbers}.")


@patiently
def nothing_answers(tools: Tools) -> bool:
    """Tell whether the alias points nowhere yet."""
    return tools.store.live() is None


@task(name="swap", task_run_name="point the alias at {collection}", **RETRIED)
def swap(tools: Tools, collection: str) -> None:
    """Point the alias at a collection, in one call; then pipeline and ledger follow."""
    move_alias(tools, collection)


@task(name="swap", task_run_name="point the alias at {collection}, the first", **RETRIED)
def publish(tools: Tools, collection: str, say: Callable[[str], None]) -> None:
    """Let queries come to the first generation, now that it holds what the bucket holds.

    Raises ``FingerprintError`` when another first sync, with other settings, was done before, ``DeletionError`` when it
    holds so much less than the generation that answered before the alias was gone as is not deleted unasked.
    """
    with tools.writing(tools.store.alias, "a first sync", tools.settings.wait_for_writer_seconds, say):
        live = tools.store.live()
        if live is None:
            check_size(tools, collection)
            mark_ready(tools.ledger, collection)
            move_alias(tools, collection)
        elif live != collection:
            check_source(tools, live)
            check(live, tools.ledger.ingredients(live) or {}, ingredients(tools.pipeline))


def check_size(tools: Tools, collection: str) -> None:
    """Raise ``DeletionError`` when objects that answered would be missing, more than go unasked: a wrong listing."""
    known = generations(tools.ledger, tools.store.alias)
    last = next((one.collection for one in known if one.settled and one.collection != collection), None)
    if last and not tools.consent.allow_deletions:
        before, now = tools.ledger.answering(last), tools.ledger.answering(collection)
        stop(last, Loss(before, max(before - now, 0), now), tools.pipeline.source, tools.settings)


def move_alias(tools: Tools, collection: str) -> None:
    """Point the alias at a collection, in one call; then pipeline and ledger follow."""
    tools.store.load(collection)
    tools.store.point_alias(collection)
    finish_swap(tools, collection)
