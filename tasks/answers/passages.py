"""Join the found chunks and their neighbours in a section to readable passages.

A chunk ends where the embedding model's window ends, often in the middle of a thought. A section ends where its
author ended it. So a passage joins neighbouring chunks under the same headings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from prefect import task

from tasks.errors import LockstepError
from tasks.models import Hit, Part
from tasks.task_runs import ONCE

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.milvus.store import Store

BYTES_PER_TOKEN = 3
"""Overestimates the tokens of nearly all chat models: English has about four bytes per token, Chinese three."""


def estimated(text: str) -> int:
    """Return an estimate of a text's tokens that is nearly always too high."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


BETWEEN = "\n"

Place = tuple[str, str, str, int]
"""A chunk's place: key and ETag of its object, its headings, its number."""


def joined(hits: Sequence[Hit], around: Iterable[Hit] = (), room: int | None = None) -> tuple[Hit, ...]:
    """Return passages, best first. Adjacent hits of a section become one, together with the chunks ``around`` them.

    A passage has the score and the place of its best chunk; ``parts`` say which chunk stands where in its text. With
    ``room``, in tokens, chunks around hits are added only while everything fits, beginning with the best hit's.
    """
    wanted = {place(hit): hit for hit in hits}
    rank = {place(hit): n for n, hit in reversed(list(enumerate(hits)))}
    left = None if room is None else room - sum(estimated(hit.text) for hit in wanted.values())
    near = {place(one): one for one in around}
    for hit in hits:
        of_section = (at for at in near if at[:3] == place(hit)[:3])
        for at in sorted(of_section, key=lambda at: abs(at[3] - hit.chunk_index)):
            cost = estimated(near[at].text)
            if at not in wanted and (left is None or cost <= left):
                wanted[at] = near[at]
                left = None if left is None else left - cost
    passages: list[tuple[int, Hit]] = []
    for run in side_by_side(wanted):
        found = [rank[at] for at in run if at in rank]
        if found:  # a run without a hit was near one, but the chunks in between did not fit
            passages.append((min(found), as_one(hits[min(found)], [wanted[at] for at in run])))
    return tuple(passage for _, passage in sorted(passages, key=lambda pair: pair[0]))


def place(hit: Hit) -> Place:
    """Return a chunk's place."""
    return (hit.key, hit.etag, hit.heading, hit.chunk_index)


def side_by_side(places: Iterable[Place]) -> Iterator[list[Place]]:
    """Yield runs of consecutive places in one section of one object."""
    for _, run in itertools.groupby(enumerate(sorted(places)), key=lambda pair: (pair[1][:3], pair[1][3] - pair[0])):
        yield [at for _, at in run]


def as_one(best: Hit, chunks: Sequence[Hit]) -> Hit:
    """Return consecutive chunks as one passage."""
    if len(chunks) == 1:
        return best
    parts: list[Part] = []
    begin = 0
    for chunk in chunks:
        parts.append(Part(chunk.chunk_id, chunk.page, begin, begin + len(chunk.text)))
        begin += len(chunk.text) + len(BETWEEN)
    return replace(best, text=BETWEEN.join(chunk.text for chunk in chunks), parts=tuple(parts))


def around(store: Store, collection: str, hits: Sequence[Hit], reach: int, where: str = "") -> list[Hit]:
    """Return the chunks up to ``reach`` places before and after each hit, of the same version of its object."""
    return store.neighbours(collection, hits, reach, where) if reach else []


@task(name="join passages", **ONCE)
def join(store: Store, collection: str, hits: Sequence[Hit], settings: Settings, where: str = "") -> tuple[Hit, ...]:
    """Return the passages for an answer. If Milvus fails meanwhile, join only the hits."""
    try:
        near = around(store, collection, hits, settings.neighbours, where)
    except LockstepError:
        near = []
    return joined(hits, near, settings.context_tokens)
