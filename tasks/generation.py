"""Find the generation that a sync writes to: the live one, the one being built, or the first."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.between import between
from tasks.canary import end_canary
from tasks.errors import FingerprintError, MisuseError
from tasks.fingerprint import as_built, check, fingerprint, ingredients, same_vectors
from tasks.generations import forget_generation, generation_of, generations, record_search_params, settle
from tasks.indexes import check_index
from tasks.pipelines import moved, reloaded, save_pipeline, still_saved
from tasks.retries import RETRIED
from tasks.schema import physical
from tasks.source import check_source, may_go_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks.pipeline import Pipeline
    from tasks.tools import Tools

KEYS_AT_ONCE = 5000


def open_generation(tools: Tools, say: Callable[[str], None]) -> str:
    """Return the live collection; before there is one, that of the first generation, which is being built.

    Raises ``FingerprintError`` when it was built with other settings, ``PartError`` when a collection has the
    alias' name.
    """
    tools.store.check_alias_is_free()
    live = tools.store.live() or set_back(tools, say)
    if live is None:
        return open_next(tools, say)
    check_source(tools, live)
    tools.store.load(live)
    if tools.ledger.ingredients(live) is None:
        _adopt(tools, live, ingredients(tools.pipeline), say)
    follow_alias(tools)
    check(live, tools.ledger.ingredients(live) or {}, ingredients(tools.pipeline))
    record_search_params(tools.ledger, live, tools.settings.search_params)
    settle(tools.ledger, tools.store.alias, live)
    return live


def set_back(tools: Tools, say: Callable[[str], None]) -> str | None:
    """Point an alias that is gone at the generation that was live, if that is whole; returns the collection, or None.

    Half a generation, as of an older copy of Milvus, must not answer, nor one with other settings than are asked for:
    then the next one is built, with the vectors that this one has.
    """
    store, known = tools.store, generations(tools.ledger, tools.store.alias)
    last = next((one for one in known if one.settled and store.exists(one.collection)), None)
    if last is None:
        return None
    check_source(tools, last.collection)
    held, recorded = store.count(last.collection), tools.ledger.totals(last.collection)["chunks"]
    if held != recorded or last.ingredients != ingredients(tools.pipeline):
        why = "has other settings" if held == recorded else f"has {held:,} chunks where the ledger says {recorded:,}"
        say(f"the alias '{store.alias}' is gone; {last.collection} {why}, so another one is built")
        return None
    store.point_alias(last.collection)
    say(f"the alias '{store.alias}' was gone: it points at {last.collection} again, which is whole")
    return last.collection


def open_next(tools: Tools, say: Callable[[str], None]) -> str:
    """Return the collection of the next generation, created: one that an earlier run began to build is gone on with.

    Raises ``MisuseError`` when the server has no such index, before anything is made.
    """
    store, ledger, settings = tools.store, tools.ledger, tools.settings
    check_index(settings, store.abilities)
    dimension = tools.model.dimension  # a model that does not load leaves nothing behind
    parts, live = ingredients(tools.pipeline), store.live()
    if live:
        check_source(tools, live)
    known = generations(ledger, store.alias)
    newer_than = next((one.number for one in known if one.collection == live), 0)
    begun = [one for one in known if one.state(live) in ("building", "ready") and one.number > newer_than]
    fit = (one.collection for one in begun if one.ingredients == parts and may_go_on(tools, one.collection))
    collection = next(fit, None)
    if collection is None:
        number = max(ledger.newest_number(store.alias), store.newest_number()) + 1
        collection = physical(store.alias, number)
        ledger.record_generation(collection, store.alias, fingerprint(parts), parts)
        between("generation recorded")
    elif store.exists(collection):
        say(f"going on with {collection}, which an earlier run began")
    else:  # it was not made yet, or was lost with all that the ledger says it holds
        forget_generation(ledger, collection)
        ledger.record_generation(collection, store.alias, fingerprint(parts), parts)
    claim = check_source(tools, collection)
    record_search_params(ledger, collection, settings.search_params)
    if not store.exists(collection):  # else its plan records it, once that was agreed to
        ledger.record_source(collection, claim.as_row())
    store.create(collection, dimension, settings, parts, claim.source)
    between("generation created")
    tools.donor = donor(tools, collection, parts)
    search = "dense and BM25" if store.abilities.bm25 else "dense only: this server has no BM25"
    say(f"{collection}: {settings.index_type} on Milvus {store.abilities.version} ({search})")
    return collection


def open_named(tools: Tools, collection: str) -> str:
    """Return a collection by name, ready to be written to with the settings that it was begun with.

    It takes vectors from another one where they are the same. Raises ``MisuseError`` when there is none such,
    ``FingerprintError`` when another version of Lockstep began it, which reads or cuts files differently.
    """
    built = tools.ledger.ingredients(collection)
    if built is None or not tools.store.exists(collection):
        raise MisuseError(f"there is no generation {collection}: `lockstep generations` lists them")
    check_source(tools, collection)
    tools.follow(built)
    check(collection, built, ingredients(tools.pipeline))
    tools.store.load(collection)
    tools.donor = donor(tools, collection, built)
    return collection


def donor(tools: Tools, collection: str, built: dict[str, Any]) -> str | None:
    """Return a generation, loaded, that has the vectors of the same texts: live, or while none is, the newest kept."""
    store, live = tools.store, tools.store.live()
    for one in generations(tools.ledger, store.alias):
        may_be = one.collection == live if live else one.promoted_at is not None
        same = may_be and one.collection != collection and same_vectors(one.ingredients, built)
        if same and store.exists(one.collection):
            store.load(one.collection)
            return one.collection
    return None


def follow_alias(tools: Tools) -> str | None:
    """Finish a swap whose run died once the alias had moved; returns the live collection."""
    live = tools.store.live()
    known = generation_of(tools.ledger, tools.store.alias, live) if live else None
    if live and known and not known.settled:
        finish_swap(tools, live)
    return live


def as_generation(tools: Tools, collection: str) -> Pipeline:
    """Return the pipeline as one of its generations was built and is searched."""
    known = generation_of(tools.ledger, tools.store.alias, collection)
    return as_built(tools.pipeline, known.ingredients, known.search_params) if known else tools.pipeline


def finish_swap(tools: Tools, live: str) -> None:
    """Let saved pipeline and ledger follow the alias: the pipeline gets the settings that ``live`` was built with."""
    known = generation_of(tools.ledger, tools.store.alias, live)
    built, search_params = (known.ingredients, known.search_params) if known else ({}, None)
    tools.follow(built, search_params)
    saved = reloaded(tools.pipeline)  # somebody may have changed it while the generation was measured
    following = as_built(saved, built, search_params)
    if following is not saved and not moved(tools.pipeline, saved):  # else it is of another index by now
        save_pipeline(following, None if following.embedder is saved.embedder else following.embedder)
    between("pipeline follows")
    end_canary(tools.ledger, tools.store.alias)
    settle(tools.ledger, tools.store.alias, live)


def _adopt(tools: Tools, collection: str, parts: dict[str, object], say: Callable[[str], None]) -> None:
    """Take over a generation that the ledger does not know: it was lost, or is another one.

    Every key found is recorded as pending, so that this sync reads it again or deletes it; the vectors
    of texts that have not changed are reused.
    """
    built = tools.store.fingerprint_of(collection)
    if built not in (None, fingerprint(parts)):
        raise FingerprintError(
            f"{collection} was built with other settings (fingerprint {built}, now {fingerprint(parts)}) and the "
            "ledger does not know which. Nothing was changed. Use the ledger it was built with, or another "
            "COLLECTION_NAME."
        )
    say(f"the ledger does not know {collection}: reading every object again, reusing the vectors it has")
    keys = (row["key"] for row in tools.store.rows(collection, ["key"]))
    while some := set(itertools.islice(keys, KEYS_AT_ONCE)):
        tools.ledger.doubt(collection, some, tools.flow_run_id)
        between("found keys doubted")
    tools.ledger.record_generation(collection, tools.store.alias, fingerprint(parts), parts)


@task(name="open generation", task_run_name="open generation of {alias}", **RETRIED)
def generation(tools: Tools, alias: str, collection: str | None, as_saved: bool, say: Callable[[str], None]) -> str:
    """Return the collection to write to: the named one, else the live one; two first syncs at once create one.

    With ``as_saved`` the pipeline is taken as it is saved now: it may have followed a swap that was waited for.
    Raises ``ChangedError`` when it is of another bucket, index or ledger by now.
    """
    with tools.writing(alias, "a sync that is starting", tools.settings.wait_for_writer_seconds, say):
        saved = still_saved(tools.pipeline)
        if as_saved:
            tools.work_as(saved)
        return open_named(tools, collection) if collection else open_generation(tools, say)


@task(name="open next generation", task_run_name="open the next generation of {alias}", **RETRIED)
def next_generation(tools: Tools, alias: str, say: Callable[[str], None]) -> str:
    """Return the collection of the generation to build."""
    with tools.writing(alias, "a rebuild that is starting", tools.settings.wait_for_writer_seconds, say):
        tools.store.check_alias_is_free()
        return open_next(tools, say)
