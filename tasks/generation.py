"""Find the generation that a sync writes to: the live one, or the first."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from prefect import task

from tasks.between import between
from tasks.errors import FingerprintError
from tasks.fingerprint import check, fingerprint, ingredients
from tasks.lease import writing
from tasks.retries import RETRIED
from tasks.schema import physical

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.tools import Tools

KEYS_AT_ONCE = 5000


def open_generation(tools: Tools, say: Callable[[str], None]) -> str:
    """Return the collection to write to, created behind its alias if there is none yet.

    Raises ``FingerprintError`` when the live one was built with other settings, ``PartError`` when a
    collection has the alias' name.
    """
    tools.store.check_alias_is_free()
    parts = ingredients(tools.pipeline)
    live = tools.store.live()
    if live is None:
        return _first(tools, parts, say)
    tools.store.load(live)
    built = tools.ledger.ingredients(live)
    if built is None:
        _adopt(tools, live, parts, say)
    else:
        check(live, built, parts)
    return live


def _first(tools: Tools, parts: dict[str, object], say: Callable[[str], None]) -> str:
    store, ledger, mark = tools.store, tools.ledger, fingerprint(parts)
    number = ledger.newest_number(store.alias)
    left = physical(store.alias, number)
    if not (number and ledger.ingredients(left) == parts and not ledger.totals(left)["chunks"]):
        # Not one that an earlier first sync recorded and did not get to fill.
        number = max(number, store.newest_number()) + 1
    collection = physical(store.alias, number)
    ledger.record_generation(collection, store.alias, mark, parts)
    between("generation recorded")
    store.create(collection, tools.model.dimension, mark)
    between("generation created")
    store.point_alias(collection)
    between("alias pointed")
    search = "dense and BM25" if store.abilities.bm25 else "dense only: this server has no BM25"
    say(f"created {collection} behind '{store.alias}' on Milvus {store.abilities.version} ({search})")
    return collection


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
def generation(tools: Tools, alias: str, say: Callable[[str], None]) -> str:
    """Return the collection to write to; two first syncs at once create one."""
    with writing(tools.ledger, alias, "a sync that is starting", tools.settings.wait_for_writer_seconds, say):
        return open_generation(tools, say)
