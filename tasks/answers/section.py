"""Look up a chunk by its id, together with the section around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.answers.passages import around, joined
from tasks.retrieval.outdated import mark_outdated
from tasks.retrieval.retrieve import Retrieved
from tasks.retrieval.routing import Attempt, Connections, Index

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from tasks.models import Hit
    from tasks.retrieval.scope import Scope

REACH = 10
"""Chunks of the section that are read before and after the chunk: with a 256-token model, about ten pages in all."""


@dataclass(frozen=True, slots=True)
class Section:
    """A chunk and its section. ``passage`` has the chunk's id and place; its text is that of the section."""

    collection: str
    passage: Hit
    notes: tuple[str, ...] = ()


def section_of(pipeline: Pipeline, chunk_id: str, connections: Connections, scope: Scope) -> Section | None:
    """Return the section of a chunk; None if the generations that answer have no such chunk within the scope.

    While a canary runs, its chunks are looked up too, since a search may have found them there.
    """
    with Index(pipeline, connections) as index:
        live, canary = index.store.resolve(), index.router.canary
        for collection in dict.fromkeys((live, canary.collection if canary and canary.live == live else live)):
            attempt = Attempt(index, collection, None, last=True)
            where = scope.condition(attempt.pipeline(pipeline.settings).settings.tenants)
            if chunks := index.store.chunks(collection, [chunk_id], where):
                (passage,) = joined(chunks, around(index.store, collection, chunks, REACH, where))
                marked = mark_outdated(Retrieved(collection, (passage,), 0.0), index.ledger)
                return Section(collection, marked.hits[0], marked.notes)
    return None
