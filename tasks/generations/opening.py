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
    """Return the live collection, or that of the first generation while it is being built.

    Raises ``FingerprintError`` if it was built with other settings, ``PartError`` if a collection has the alias' name.
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
    """Point a lost alias at the generation that was live, if that is complete. Return its collection, or None.

    An incomplete generation, as after a restore of an old copy of Milvus, must not answer. Nor must one with other
    settings than the pipeline's. Then the next generation is built, and reuses the vectors of this one.
    """
    store, known = resources.store, generations(resources.ledger, resources.store.alias)
    last = next((one for one in known if one.settled and store.exists(one.collection)), None)
    if last is None:
        return None
    check_source(resources, last.collection)
    held, recorded = store.count(last.collection), count_objects(resources.ledger, last.collection)["chunks"]
    if held != recorded or last.ingredients != ingredients(resources.pipeline):
        why = "has other settings" if held == recorded else f"has {held:,} chunks, but the ledger says {recorded:,}"
        run_logger().info(f"the alias '{store.alias}' is gone. {last.collection} {why}, so a new generation is built")
        return None
    store.point_alias(last.collection)
    run_logger().info(f"the alias '{store.alias}' was gone. It points at {last.collection} again, which is complete")
    return last.collection


def open_next(resources: Resources) -> str:
    """Create the next generation, or continue one that an earlier run began, and return its collection.

    Raises ``MisuseError`` before anything is created, if the server lacks the index type.
    """
    store, ledger, settings = resources.store, resources.ledger, resources.settings
    check_index(settings, store.capabilities)
    dimension = resources.model.dimension  # load the model first: if that fails, nothing is left behind
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
        run_logger().info(f"continuing with {collection}, which an earlier run began")
    else:  # the collection was not made yet, or was lost with all its chunks
        forget_generation(ledger, collection)
        record_generation(ledger, collection, store.alias, fingerprint(parts), parts)
    claim = check_source(resources, collection)
    record_search_params(ledger, collection, settings.search_params)
    if not store.exists(collection):  # otherwise `keep_source` records it, once the plan is accepted
        record_source(ledger, collection, claim.as_row())
    store.create(collection, dimension, settings, {**properties_of(parts), SOURCE: json.dumps(asdict(claim.source))})
    crash_point("generation created")
    resources.donor = donor(resources, collection, parts)
    search = "dense and BM25" if store.capabilities.bm25 else "dense only: this server has no BM25"
    run_logger().info(f"{collection}: {settings.index_type} on Milvus {store.capabilities.version} ({search})")
    return collection


def open_named(resources: Resources, collection: str) -> str:
    """Open a collection by name, for writing with the settings that it was begun with, and return its name.

    It reuses equal vectors of another generation. Raises ``MisuseError`` if there is no such collection. Raises
    ``FingerprintError`` if a version of Lockstep began it that parses or cuts files differently.
    """
    built = ingredients_of(resources.ledger, collection)
    if built is None or not resources.store.exists(collection):
        raise MisuseError(f"there is no generation {collection}. `lockstep generations` lists them.")
    check_source(resources, collection)
    work_as_built(resources, built)
    check(collection, built, ingredients(resources.pipeline))
    resources.store.load(collection)
    resources.donor = donor(resources, collection, built)
    return collection


def donor(resources: Resources, collection: str, built: dict[str, Any]) -> str | None:
    """Load and return a generation to reuse vectors from: the live one, or if none is live, the newest one kept."""
    store, live = resources.store, resources.store.live()
    for one in generations(resources.ledger, store.alias):
        may_be = one.collection == live if live else one.promoted_at is not None
        same = may_be and one.collection != collection and same_vectors(one.ingredients, built)
        if same and store.exists(one.collection):
            store.load(one.collection)
            return one.collection
    return None


def follow_alias(resources: Resources) -> str | None:
    """Finish a swap whose run died after it had moved the alias. Return the live collection."""
    live = resources.store.live()
    known = generation_of(resources.ledger, resources.store.alias, live) if live else None
    if live and known and not known.settled:
        finish_swap(resources, live)
    return live


def as_generation(resources: Resources, collection: str) -> Pipeline:
    """Return the pipeline with the settings, model and search parameters of one of its generations."""
    known = generation_of(resources.ledger, resources.store.alias, collection)
    return with_settings_of(resources.pipeline, known.ingredients, known.search_params) if known else resources.pipeline


def finish_swap(resources: Resources, live: str) -> None:
    """Update the saved pipeline and the ledger after the alias: the pipeline gets the settings of ``live``."""
    known = generation_of(resources.ledger, resources.store.alias, live)
    built, search_params = (known.ingredients, known.search_params) if known else ({}, None)
    work_as_built(resources, built, search_params)
    saved = reloaded(resources.pipeline)  # somebody may have changed it while the gates were measured
    following = with_settings_of(saved, built, search_params)
    if following is not saved and not moved(resources.pipeline, saved):  # a moved pipeline has another index by now
        save_pipeline(following, None if following.embedder is saved.embedder else following.embedder)
    crash_point("pipeline follows")
    end_canary(resources.ledger, resources.store.alias)
    follow_alias_in_ledger(resources.ledger, resources.store.alias, live)


def _adopt(resources: Resources, collection: str, parts: dict[str, object]) -> None:
    """Take over a generation that the ledger does not know, because the ledger was lost or is a different one.

    Every key in it is recorded as pending, so that this sync reads it again or deletes it. The vectors of unchanged
    texts are reused.
    """
    built = fingerprint_of(resources.store, collection)
    if built not in (None, fingerprint(parts)):
        raise FingerprintError(
            f"{collection} was built with other settings (fingerprint {built}, now {fingerprint(parts)}), and the "
            "ledger does not know which. Nothing was changed. Use the ledger that it was built with, or another "
            "COLLECTION_NAME."
        )
    run_logger().info(f"the ledger does not know {collection}. Every object is read again, and its vectors are reused")
    keys = (row["key"] for row in resources.store.rows(collection, ["key"]))
    while some := set(itertools.islice(keys, KEYS_AT_ONCE)):
        record_suspects(resources.ledger, collection, some, resources.flow_run_id)
        crash_point("found keys doubted")
    record_generation(resources.ledger, collection, resources.store.alias, fingerprint(parts), parts)


@task(name="open generation", task_run_name="open generation of {alias}", **RETRIED)
def generation(resources: Resources, alias: str, collection: str | None, as_saved: bool) -> str:
    """Return the collection to write to: the named one, else the live one. Two first syncs at once create only one.

    With ``as_saved`` the run uses the pipeline as it is saved now, since a swap may have changed it during the wait.
    Raises ``ChangedError`` if the pipeline has another bucket, index or ledger by now.
    """
    with resources.writing(alias, "a sync that is starting", resources.settings.wait_for_writer_seconds):
        saved = still_saved(resources.pipeline)
        if as_saved:
            resources.work_as(saved)
        return open_named(resources, collection) if collection else open_generation(resources)


@task(name="open next generation", task_run_name="open the next generation of {alias}", **RETRIED)
def next_generation(resources: Resources, alias: str) -> str:
    """Open the generation to build and return its collection."""
    with resources.writing(alias, "a rebuild that is starting", resources.settings.wait_for_writer_seconds):
        resources.store.check_alias_is_free()
        return open_next(resources)
