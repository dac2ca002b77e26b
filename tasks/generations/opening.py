"""Find the generation that a sync writes to: the live one, the one being built, or the first."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.crash_points import crash_point
from tasks.errors import FingerprintError, MisuseError
from tasks.generations.claims import SOURCE, check_source, may_go_on
from tasks.generations.fingerprint import (
    check,
    fingerprint,
    fingerprint_of,
    ingredients,
    properties_of,
    same_vectors,
    with_settings_of,
)
from tasks.ledger.canary import end_canary
from tasks.ledger.generations import (
    follow_alias_in_ledger,
    forget_generation,
    generation_of,
    generations,
    ingredients_of,
    newest_number,
    record_generation,
    record_search_params,
    record_source,
)
from tasks.ledger.objects import count_objects, record_suspects
from tasks.milvus.index_types import check_index
from tasks.milvus.schema import physical
from tasks.pipelines import moved, reloaded, save_pipeline, still_saved
from tasks.task_runs import RETRIED, run_logger

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from tasks.resources import Resources

KEYS_AT_ONCE = 5000


def open_generation(resources: Resources) -> str:
    """Return the live collection; before there is one, that of the first generation, which is being built.

    Raises ``FingerprintError`` when it was built with other settings, ``PartError`` when a collection has the
    alias' name.
    """
    resources.store.check_alias_is_free()
    live = resources.store.live() or set_back(resources)
    if live is None:
        return open_next(resources)
    check_source(resources, live)
    resources.store.load(live)
    if ingredients_of(resources.ledger, live) is None:
        _adopt(resources, live, ingredients(resources.pipeline))
    follow_alias(resources)
    check(live, ingredients_of(resources.ledger, live) or {}, ingredients(resources.pipeline))
    record_search_params(resources.ledger, live, resources.settings.search_params)
    follow_alias_in_ledger(resources.ledger, resources.store.alias, live)
    return live


def work_as_built(resources: Resources, built: dict[str, Any], search_params: dict[str, Any] | None = None) -> None:
    """Use the settings and the model that a generation was built with from now on."""
    resources.work_as(with_settings_of(resources.pipeline, built, search_params))


def set_back(resources: Resources) -> str | None:
    """Restore a missing alias to the generation that was live, if that is complete; returns the collection, or None.

    Half a generation, as of an older copy of Milvus, must not answer, nor one with other settings than are asked for:
    then the next one is built, with the vectors that this one has.
    """
    store, known = resources.store, generations(resources.ledger, resources.store.alias)
    last = next((one for one in known if one.settled and store.exists(one.collection)), None)
    if last is None:
        return None
    check_source(resources, last.collection)
    held, recorded = store.count(last.collection), count_objects(resources.ledger, last.collection)["chunks"]
    if held != recorded or last.ingredients != ingredients(resources.pipeline):
        why = "has other settings" if held == recorded else f"has {held:,} chunks where the ledger says {recorded:,}"
        run_logger().info(f"the alias '{store.alias}' is gone; {last.collection} {why}, so another one is built")
        return None
    store.point_alias(last.collection)
    run_logger().info(f"the alias '{store.alias}' was gone: it points at {last.collection} again, which is whole")
    return last.collection


def open_next(resources: Resources) -> str:
    """Create the next generation, or continue one that an earlier run began; return its collection.

    Raises ``MisuseError`` when the server has no such index, before anything is made.
    """
    store, ledger, settings = resources.store, resources.ledger, resources.settings
    check_index(settings, store.capabilities)
    dimension = resources.model.dimension  # a model that does not load leaves nothing behind
    parts, live = ingredients(resources.pipeline), store.live()
    if live:
        check_source(resources, live)
    known = generations(ledger, store.alias)
    newer_than = next((one.number for one in known if one.collection == live), 0)
    begun = [one for one in known if one.state(live) in ("building", "ready") and one.number > newer_than]
    fit = (one.collection for one in begun if one.ingredients == parts and may_go_on(resources, one.collection))
    collection = next(fit, None)
    if collection is None:
        number = max(newest_number(ledger, store.alias), store.newest_number()) + 1
        collection = physical(store.alias, number)
        record_generation(ledger, collection, store.alias, fingerprint(parts), parts)
        crash_point("generation recorded")
    elif store.exists(collection):
        run_logger().info(f"going on with {collection}, which an earlier run began")
    else:  # it was not made yet, or was lost with all that the ledger says it holds
        forget_generation(ledger, collection)
        record_generation(ledger, collection, store.alias, fingerprint(parts), parts)
    claim = check_source(resources, collection)
    record_search_params(ledger, collection, settings.search_params)
    if not store.exists(collection):  # else its plan records it, once that was agreed to
        record_source(ledger, collection, claim.as_row())
    store.create(collection, dimension, settings, {**properties_of(parts), SOURCE: json.dumps(asdict(claim.source))})
    crash_point("generation created")
    resources.donor = donor(resources, collection, parts)
    search = "dense and BM25" if store.capabilities.bm25 else "dense only: this server has no BM25"
    run_logger().info(f"{collection}: {settings.index_type} on Milvus {store.capabilities.version} ({search})")
    return collection


def open_named(resources: Resources, collection: str) -> str:
    """Return a collection by name, ready to be written to with the settings that it was begun with.

    It takes vectors from another one where they are the same. Raises ``MisuseError`` when there is none such,
    ``FingerprintError`` when another version of Lockstep began it, which reads or cuts files differently.
    """
    built = ingredients_of(resources.ledger, collection)
    if built is None or not resources.store.exists(collection):
        raise MisuseError(f"there is no generation {collection}: `lockstep generations` lists them")
    check_source(resources, collection)
    work_as_built(resources, built)
    check(collection, built, ingredients(resources.pipeline))
    resources.store.load(collection)
    resources.donor = donor(resources, collection, built)
    return collection


def donor(resources: Resources, collection: str, built: dict[str, Any]) -> str | None:
    """Return a loaded generation to copy vectors from: the live one, or the newest kept one if none is live."""
    store, live = resources.store, resources.store.live()
    for one in generations(resources.ledger, store.alias):
        may_be = one.collection == live if live else one.promoted_at is not None
        same = may_be and one.collection != collection and same_vectors(one.ingredients, built)
        if same and store.exists(one.collection):
            store.load(one.collection)
            return one.collection
    return None


def follow_alias(resources: Resources) -> str | None:
    """Finish a swap whose run died once the alias had moved; returns the live collection."""
    live = resources.store.live()
    known = generation_of(resources.ledger, resources.store.alias, live) if live else None
    if live and known and not known.settled:
        finish_swap(resources, live)
    return live


def as_generation(resources: Resources, collection: str) -> Pipeline:
    """Return the pipeline as one of its generations was built and is searched."""
    known = generation_of(resources.ledger, resources.store.alias, collection)
    return with_settings_of(resources.pipeline, known.ingredients, known.search_params) if known else resources.pipeline


def finish_swap(resources: Resources, live: str) -> None:
    """Update ledger and saved pipeline after the alias moved: the pipeline gets the settings of ``live``."""
    known = generation_of(resources.ledger, resources.store.alias, live)
    built, search_params = (known.ingredients, known.search_params) if known else ({}, None)
    work_as_built(resources, built, search_params)
    saved = reloaded(resources.pipeline)  # somebody may have changed it while the generation was measured
    following = with_settings_of(saved, built, search_params)
    if following is not saved and not moved(resources.pipeline, saved):  # else it is of another index by now
        save_pipeline(following, None if following.embedder is saved.embedder else following.embedder)
    crash_point("pipeline follows")
    end_canary(resources.ledger, resources.store.alias)
    follow_alias_in_ledger(resources.ledger, resources.store.alias, live)


def _adopt(resources: Resources, collection: str, parts: dict[str, object]) -> None:
    """Take over a generation that the ledger does not know: it was lost, or is another one.

    Every key found is recorded as pending, so that this sync reads it again or deletes it; the vectors
    of texts that have not changed are reused.
    """
    built = fingerprint_of(resources.store, collection)
    if built not in (None, fingerprint(parts)):
        raise FingerprintError(
            f"{collection} was built with other settings (fingerprint {built}, now {fingerprint(parts)}) and the "
            "ledger does not know which. Nothing was changed. Use the ledger it was built with, or another "
            "COLLECTION_NAME."
        )
    run_logger().info(f"the ledger does not know {collection}: reading every object again, reusing the vectors it has")
    keys = (row["key"] for row in resources.store.rows(collection, ["key"]))
    while some := set(itertools.islice(keys, KEYS_AT_ONCE)):
        record_suspects(resources.ledger, collection, some, resources.flow_run_id)
        crash_point("found keys doubted")
    record_generation(resources.ledger, collection, resources.store.alias, fingerprint(parts), parts)


@task(name="open generation", task_run_name="open generation of {alias}", **RETRIED)
def generation(resources: Resources, alias: str, collection: str | None, as_saved: bool) -> str:
    """Return the collection to write to: the named one, else the live one. Two first syncs at once create one.

    With ``as_saved`` the pipeline is taken as it is saved now: it may have followed a swap that was waited for.
    Raises ``ChangedError`` when it is of another bucket, index or ledger by now.
    """
    with resources.writing(alias, "a sync that is starting", resources.settings.wait_for_writer_seconds):
        saved = still_saved(resources.pipeline)
        if as_saved:
            resources.work_as(saved)
        return open_named(resources, collection) if collection else open_generation(resources)


@task(name="open next generation", task_run_name="open the next generation of {alias}", **RETRIED)
def next_generation(resources: Resources, alias: str) -> str:
    """Return the collection of the generation to build."""
    with resources.writing(alias, "a rebuild that is starting", resources.settings.wait_for_writer_seconds):
        resources.store.check_alias_is_free()
        return open_next(resources)
