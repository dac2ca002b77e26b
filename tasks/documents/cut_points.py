"""Decide where to cut a text, so that an edit moves only the cuts beside it.

Packing units greedily from the start would be simpler. But then one added sentence shifts every later cut of the
section, and all those chunks are embedded again. Here each possible cut has a rank that depends only on the text that
follows it. A range that is too long is cut at its best-ranked place, until everything fits. A cut elsewhere in the text
keeps its rank, so it keeps its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANK_CHARACTERS = 40
"""A unit's rank is computed from its first characters, so an edit further on in it moves nothing."""
SMALLEST_SHARE = 1 / 4
"""The minimum of either side of a cut, as a share of the capacity, where that is possible."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that is not cut further.

    ``level`` is 0 at the start of an element, and 1, 2 or 3 at lines, sentences or words inside one. Cuts at lower
    levels come first. ``cost`` is its length, at most the capacity."""

    text: str
    level: int
    cost: int


def rank(unit: Unit) -> int:
    """Return the rank of the cut before a unit. The lowest rank is cut first."""
    digest = hashlib.blake2b(unit.text[:RANK_CHARACTERS].encode(), digest_size=7).digest()
    return (unit.level << 56) | int.from_bytes(digest, "big")


def ranges(units: Sequence[Unit], capacity: int) -> list[tuple[int, int]]:
    """Return the half-open range of units of each chunk, in order. None costs over ``capacity``."""
    return list(cut([unit.cost for unit in units], [rank(unit) for unit in units], capacity))


def cut(costs: Sequence[int], ranked: Sequence[int], capacity: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges of units, in order, from their costs and ranks alone."""
    import numpy as np

    if sum(costs) <= capacity:
        yield from [(0, len(costs))] if costs else []
        return
    ends = np.concatenate([[0], np.cumsum(np.asarray(costs, dtype=np.int64))])
    ranks = np.asarray(ranked, dtype=np.int64)
    todo = [(0, len(costs))]
    while todo:
        start, stop = todo.pop()
        if stop - start == 1 or ends[stop] - ends[start] <= capacity:
            yield start, stop
        else:
            place = _best_cut(ends, ranks, start, stop, SMALLEST_SHARE * capacity)
            todo += [(place, stop), (start, place)]


def _best_cut(ends: NDArray[np.int64], ranks: NDArray[np.int64], start: int, stop: int, least: float) -> int:
    """Return the best-ranked unit to cut before, leaving ``least`` on both sides where possible."""
    first = max(start + 1, int(ends.searchsorted(ends[start] + least, "left")))
    last = min(stop - 1, int(ends.searchsorted(ends[stop] - least, "right")) - 1)
    if first > last:
        first, last = start + 1, stop - 1
    return first + int(ranks[first : last + 1].argmin())
