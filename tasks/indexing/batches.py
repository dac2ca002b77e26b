"""Divide the recorded work into batches, and batches into waves, of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from tasks.ledger.tables import OBJECTS
from tasks.models import ObjectRef
from tasks.retries import patiently

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.ledger.database import Database

Stage = Literal["renamed", "deleted", "written"]
ROWS_AT_ONCE = 1000
WAVE_SECONDS = 4.0


def batched(refs: Iterable[ObjectRef], settings: Settings) -> Iterator[list[ObjectRef]]:
    """Yield batches of 1 to ``batch_objects`` objects and at most ``batch_bytes`` bytes.

    A larger object is a batch of its own.
    """
    batch: list[ObjectRef] = []
    size = 0
    for ref in refs:
        if batch and (len(batch) == settings.batch_objects or size + ref.size > settings.batch_bytes):
            yield batch
            batch, size = [], 0
        batch.append(ref)
        size += ref.size
    if batch:
        yield batch


def waves(
    batches: Iterable[list[ObjectRef]], settings: Settings, most: Callable[[], int] | None = None
) -> Iterator[list[list[ObjectRef]]]:
    """Yield waves of at most ``wave_batches`` batches. A wave ends early at ``wave_batches * batch_bytes`` bytes.

    ``most`` returns the largest number of batches of the next wave, if that is less.
    """
    wave: list[list[ObjectRef]] = []
    size = 0
    for batch in batches:
        wave.append(batch)
        size += sum(ref.size for ref in batch)
        if (
            len(wave) >= min(settings.wave_batches, most() if most else settings.wave_batches)
            or size >= settings.wave_batches * settings.batch_bytes
        ):
            yield wave
            wave, size = [], 0
    if wave:
        yield wave


class Pace:
    """How many batches a wave may have, so that it takes about ``WAVE_SECONDS``: keys that wait are served in between.

    The first wave has one batch.
    """

    def __init__(self) -> None:
        self.batches = 1

    def most(self) -> int:
        """Return the most batches that the next wave may have."""
        return self.batches

    def took(self, batches: int, seconds: float) -> None:
        """Learn from a wave: the next one has at most twice as many batches."""
        fitting = int(batches * WAVE_SECONDS / max(seconds, 0.001))
        self.batches = max(1, min(fitting, 2 * self.batches))


def recorded(ledger: Database, collection: str, stage: Stage, keys: Sequence[str] | None = None) -> Iterator[ObjectRef]:
    """Yield the objects with recorded work in the ledger, in order of key, read in bounded pieces.

    ``keys`` limits them to some keys.

    A sync runs three stages. ``renamed`` objects have the bytes of a deleted key: they come first, while
    Milvus still has the vectors of the old key. ``deleted`` comes next, so that deleted objects do not stay
    answerable during long writes. ``written`` is the rest.
    """
    last = ""
    while refs := _page(ledger, collection, stage, last, keys):
        yield from refs
        last = refs[-1].key


@patiently
def _page(ledger: Database, collection: str, stage: Stage, after: str, keys: Sequence[str] | None) -> list[ObjectRef]:
    if stage == "deleted":
        chosen: list[sa.ColumnElement[bool]] = [OBJECTS.c.state.in_(["deleting", "returned"])]
    else:
        # An object with a reason already failed in this run's "renamed" stage.
        chosen = [OBJECTS.c.state == "pending", OBJECTS.c.reason.is_(None)]
    if keys is not None:
        chosen.append(OBJECTS.c.key.in_(list(keys)))
    columns = [OBJECTS.c[name] for name in ("key", "etag", "size", "last_modified")]
    query = sa.select(*columns).where(OBJECTS.c.collection == collection, OBJECTS.c.key > after, *chosen)
    if stage == "renamed":
        leaving = OBJECTS.alias()
        same_bytes = (
            leaving.c.collection == collection,
            leaving.c.state == "deleting",
            leaving.c.etag == OBJECTS.c.etag,
        )
        query = query.where(sa.exists().where(*same_bytes))
    with ledger.transaction() as connection:
        found = connection.execute(query.order_by(OBJECTS.c.key).limit(ROWS_AT_ONCE))
        return [ObjectRef(*row) for row in found]
