"""Work in batches and waves of bounded size."""

from __future__ import annotations

import itertools

import pytest

from blocks.settings import Settings
from tasks.indexing.batches import batched, waves
from tasks.models import ObjectRef


def refs(*sizes: int) -> list[ObjectRef]:
    return [ObjectRef(f"{i:05}.md", "e", size, 0) for i, size in enumerate(sizes)]


def sizes_of(batches: list[list[ObjectRef]]) -> list[list[int]]:
    return [[ref.size for ref in batch] for batch in batches]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [[1]]),
        ([1, 1, 1], [[1, 1, 1]]),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([60, 40, 1], [[60, 40], [1]]),
        ([60, 41, 1], [[60], [41, 1]]),
        ([500, 1], [[500], [1]]),
        ([1, 500, 500, 1], [[1], [500], [500], [1]]),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
    ],
)
def test_a_batch_is_bounded_by_objects_and_bytes(sizes: list[int], expected: list[list[int]]) -> None:
    assert sizes_of(list(batched(refs(*sizes), Settings(batch_objects=3, batch_bytes=100)))) == expected


def test_every_object_is_in_one_batch_in_order() -> None:
    given = refs(*(i * 7919 % 90 for i in range(1_000)))
    batches = list(batched(given, Settings(batch_objects=10, batch_bytes=200)))
    assert list(itertools.chain.from_iterable(batches)) == given
    assert all(1 <= len(batch) <= 10 and sum(ref.size for ref in batch) <= 200 for batch in batches)


def test_batches_are_cut_while_the_objects_still_come() -> None:
    endless = (ObjectRef(str(i), "e", 1, 0) for i in itertools.count())
    settings = Settings(batch_objects=2, wave_batches=3)
    cut = waves(batched(endless, settings), settings)
    assert sizes_of(next(cut)) == [[1, 1]] * 3
    assert next(endless).key == "7"


def test_a_wave_is_bounded_by_bytes() -> None:
    batches = [refs(9) for _ in range(5)]
    found = list(waves(batches, Settings(wave_batches=4, batch_bytes=4)))
    assert [len(wave) for wave in found] == [2, 2, 1]


@pytest.mark.parametrize(("number", "lengths"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_a_wave_is_bounded_by_batches(number: int, lengths: list[int]) -> None:
    batches = [refs(1) for _ in range(number)]
    found = list(waves(batches, Settings(wave_batches=3)))
    assert [len(wave) for wave in found] == lengths
    assert list(itertools.chain.from_iterable(found)) == batches
