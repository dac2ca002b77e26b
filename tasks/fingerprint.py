"""Everything that decides what a chunk and its vector look like, as one hash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tasks.errors import FingerprintError
from tasks.precision import resolve_dtype

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline

PARSER = 1
"""Raised when the same bytes are read as other elements than before."""
CHUNKER = 1
"""Raised when the same elements are cut into other chunks than before."""


def ingredients(pipeline: Pipeline) -> dict[str, Any]:
    """Return the settings in the fingerprint, by name."""
    embedder, settings = pipeline.embedder, pipeline.settings
    return {
        "parser": PARSER,
        "chunker": CHUNKER,
        "chunk_tokens": settings.chunk_tokens,
        "embed_heading": settings.embed_heading,
        "model": embedder.model_name,
        "revision": embedder.revision,
        "dtype": resolve_dtype(embedder),
        "query_prompt": embedder.query_prompt,
        "document_prompt": embedder.document_prompt,
    }


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
            f"{collection} was built with other settings ({'; '.join(changed)}). Nothing was changed. "
            "Set them back to go on with it, or rebuild: a new COLLECTION_NAME starts an index with the new settings."
        )
