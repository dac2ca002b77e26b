"""The fingerprint: one hash of all settings that decide what a chunk and its vector look like."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tasks.embedding.dtype import resolve_dtype
from tasks.errors import FingerprintError
from tasks.milvus.index_types import build_params
from tasks.text.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks.pipeline import Pipeline
    from tasks.milvus.store import Store

PARSER = 2
"""Raise this number when the same bytes give other elements than before."""
CHUNKER = 1
"""Raise this number when the same elements give other chunks than before."""


FINGERPRINT, INGREDIENTS = "lockstep.fingerprint", "lockstep.built_with"
"""Properties of a collection with the fingerprint and its ingredients, for queries and in case the ledger is lost."""
OF_SETTINGS = ("chunk_tokens", "embed_heading", "tenants", "index_type", "index_params")
FOLLOWING = (*OF_SETTINGS, "search_params")
"""Settings of the saved pipeline that follow the live generation, after a rebuild or a rollback."""
OF_EMBEDDER = {
    "model": "model_name",
    "revision": "revision",
    "dtype": "dtype",
    "query_prompt": "query_prompt",
    "document_prompt": "document_prompt",
}
VECTOR = ("model", "revision", "dtype", "document_prompt")
"""The ingredients that decide the vector of a given text."""


def properties_of(built: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties of a collection with the ingredients that it is built with."""
    return {FINGERPRINT: fingerprint(dict(built)), INGREDIENTS: json.dumps(built)}


def fingerprint_of(store: Store, collection: str) -> str | None:
    """Return the fingerprint that a collection was created with, or None if the server did not keep it."""
    return store.properties(collection).get(FINGERPRINT) or None


def built_with(store: Store, collection: str) -> dict[str, Any] | None:
    """Return the ingredients that a generation was built with, or None if the server did not keep them."""
    return built_in(store.properties(collection))


def built_in(properties: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the ingredients that a collection's properties hold, or None if they hold none."""
    value = properties.get(INGREDIENTS)
    return dict(json.loads(value)) if value else None


def ingredients(pipeline: Pipeline) -> dict[str, Any]:
    """Return the settings in the fingerprint, by name."""
    embedder, settings = pipeline.embedder, pipeline.settings
    return {
        "parser": PARSER,
        "chunker": CHUNKER,
        "chunk_tokens": settings.chunk_tokens,
        "embed_heading": settings.embed_heading,
        "words": WORDS,
        "tenants": settings.tenants,
        "model": embedder.model_name,
        "revision": embedder.revision,
        "dtype": resolve_dtype(embedder),
        "query_prompt": embedder.query_prompt,
        "document_prompt": embedder.document_prompt,
        "index_type": settings.index_type,
        "index_params": build_params(settings),
    }


def same_vectors(built: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Return whether a text has the same vector in two generations with these ingredients."""
    return all(built.get(name) == asked.get(name) for name in VECTOR)


def with_settings_of(
    pipeline: Pipeline, built: dict[str, Any] | None, search_params: dict[str, Any] | None = None
) -> Pipeline:
    """Return the pipeline with its settings and model replaced by those that a generation was built with.

    ``search_params`` are the generation's, if they are known.
    """
    asked = ingredients(pipeline)
    changed = {name: value for name, value in (built or {}).items() if asked.get(name, value) != value}
    of_settings = {name: changed[name] for name in OF_SETTINGS if name in changed}
    of_embedder = {field: changed[name] for name, field in OF_EMBEDDER.items() if name in changed}
    update: dict[str, Any] = {}
    if search_params is None and "index_type" in of_settings:
        search_params = {}  # the pipeline's own are for another index type
    if search_params not in (None, pipeline.settings.search_params):
        of_settings["search_params"] = search_params
    if of_settings:
        update["settings"] = pipeline.settings.model_copy(update=of_settings)
    if of_embedder:
        update["embedder"] = pipeline.embedder.model_copy(update=of_embedder)
    return pipeline.model_copy(update=update) if update else pipeline


def fingerprint(parts: dict[str, Any]) -> str:
    """Return the hash of the ingredients: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def differences(built: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return 'setting: built → asked' for each ingredient that differs, by name."""
    names = sorted(built.keys() | asked.keys())
    return [f"{n}: {_shown(built.get(n))} → {_shown(asked.get(n))}" for n in names if built.get(n) != asked.get(n)]


def _shown(value: object) -> str:
    return "unset" if value is None else "empty" if value == "" else str(value)


def check(collection: str, built: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise ``FingerprintError`` if a generation was built with other settings than those asked for."""
    if changed := differences(built, asked):
        raise FingerprintError(
            f"{collection} was built with other settings ({'; '.join(changed)}). Nothing was written. "
            "Set them back to continue with it, or run `lockstep rebuild` to build a generation with the new ones.",
            collection,
        )
