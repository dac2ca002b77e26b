"""Ranges that are listed at once are one listing: complete, in its order, and of no server's good will."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.bucket.ranges import PAGES_AHEAD, Page, list_ranges
from tasks.errors import TransientError
from tasks.models import ObjectRef

Listing = Callable[[str], Iterator[Page]]


def page_of(keys: list[str]) -> Page:
    """A page of which the keys with an x are not selected."""
    return Page(keys, [None if "x" in key else ObjectRef(key, "e1", 1, 5) for key in keys])


def server(keys: list[str], size: int, start: Callable[[str], int]) -> Listing:
    """A server that lists keys in its own order. ``start`` says at which of them it begins after a key."""

    def listing_after(key: str) -> Iterator[Page]:
        first = start(key) if key else 0
        yield from (page_of(keys[at : at + size]) for at in range(first, len(keys), size))
        yield page_of([])

    return listing_after


def sorting(keys: list[str], size: int) -> Listing:
    return server(keys, size, lambda key: bisect_right(keys, key))


def by_position(keys: list[str], size: int) -> Listing:
    """A server that begins behind the place of a key in its own order, such as the order of writing."""
    return server(keys, size, lambda key: keys.index(key) + 1 if key in keys else 0)


def ignoring(keys: list[str], size: int) -> Listing:
    return server(keys, size, lambda _key: 0)


def broke_off(why: str) -> TransientError:
    return TransientError(f"broke off: {why}")


def listed(listing: Listing, cuts: list[str], at_once: int = 3) -> list[str]:
    return [ref.key for ref in chain.from_iterable(list_ranges(listing, cuts, at_once, broke_off))]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("list to")}


def wait_for_threads() -> None:
    deadline = time.monotonic() + 20
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


SOME_KEYS = st.text(st.sampled_from("abx\ufffd\U0001f600"), min_size=1, max_size=3)


@given(
    st.lists(SOME_KEYS, unique=True, max_size=20),
    st.sets(SOME_KEYS, max_size=6),
    st.integers(1, 5),
    st.integers(2, 4),
    st.sampled_from([sorting, by_position, ignoring]),
)
def test_any_server_is_listed_as_without_ranges(
    keys: list[str], cuts: set[str], size: int, at_once: int, kind: Callable[[list[str], int], Listing]
) -> None:
    if kind is sorting:
        keys = sorted(keys, key=str.encode)
    listing = kind(keys, size)
    assert listed(listing, sorted(cuts), at_once) == listed(listing, []) == [key for key in keys if "x" not in key]


def test_a_server_that_seems_to_sort_is_found_out() -> None:
    """It goes by time: each range ascends and lies between its cuts, and three keys are in none of them."""
    keys = ["a", "z", "b", "m", "y"]
    assert listed(by_position(keys, 2), ["m"]) == keys


def test_what_comes_and_goes_at_a_cut_is_no_gap() -> None:
    """A key that was put after the first range ended changes where the second one begins."""
    keys = [f"{number:02}" for number in range(40)]

    def listing_after(key: str) -> Iterator[Page]:
        return sorting(sorted([*keys, "20+"]) if key == "20" else keys, 3)(key)

    assert listed(listing_after, ["20"]) == keys


def test_the_ranges_are_fetched_at_once_and_no_further_than_they_may() -> None:
    together = threading.Barrier(4)
    fetched: dict[str, int] = {}

    def listing_after(start: str) -> Iterator[Page]:
        if start in ("", "02", "04", "60"):
            together.wait(20)
        for page in sorting([f"{number:02}" for number in range(100)], 1)(start):
            fetched[start] = fetched.get(start, 0) + 1
            yield page

    reading = list_ranges(listing_after, ["02", "04", "60", "62", "64"], 4, broke_off)
    assert [ref.key for (ref,) in islice(reading, 2)] == ["00", "01"]
    deadline = time.monotonic() + 20
    while fetched.get("04", 0) <= PAGES_AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert fetched.pop("") <= 4
    assert fetched.pop("02") <= 4
    assert fetched.pop("04") == PAGES_AHEAD + 1
    assert fetched.keys() == {"60"}, "the other ranges have not begun"
    assert [ref.key for page in reading for ref in page] == [f"{number:02}" for number in range(2, 100)]
    wait_for_threads()


@pytest.mark.parametrize("read", [0, 1, 30])
def test_the_threads_end_when_nobody_reads_on(read: int) -> None:
    keys = [f"{number:03}" for number in range(900)]
    reading = list_ranges(sorting(keys, 2), ["300", "600"], 3, broke_off)
    list(islice(reading, read))
    reading.close()
    wait_for_threads()


def test_the_threads_of_given_up_ranges_end_while_the_listing_goes_on() -> None:
    keys = [f"{number:03}" for number in range(900)]
    reading = list_ranges(ignoring(keys, 2), ["010", "800", "810"], 3, broke_off)
    assert len(list(islice(reading, 20))) == 20
    wait_for_threads()
    assert [ref.key for page in reading for ref in page] == keys[40:]


def test_a_range_that_fails_ends_them_all() -> None:
    keys = [f"{number:03}" for number in range(900)]

    def listing_after(start: str) -> Iterator[Page]:
        for number, page in enumerate(sorting(keys, 2)(start)):
            if start == "300" and number == 5:
                raise TransientError("S3: gone")
            yield page

    found: list[Any] = []
    with pytest.raises(TransientError, match="gone"):
        found.extend(list_ranges(listing_after, ["300", "600"], 3, broke_off))
    wait_for_threads()


def test_a_server_that_refuses_to_begin_after_a_key_is_listed_from_the_beginning() -> None:
    keys = [f"{number:03}" for number in range(90)]

    def listing_after(start: str) -> Iterator[Page]:
        if start:
            raise TransientError("S3: NotImplemented")
        yield from sorting(keys, 2)(start)

    assert listed(listing_after, ["030", "060"]) == keys
    wait_for_threads()


def test_an_end_before_keys_that_the_next_range_has_is_no_end() -> None:
    keys = [f"{number:03}" for number in range(90)]

    def listing_after(start: str) -> Iterator[Page]:
        return sorting(keys if start else keys[:20], 4)(start)

    with pytest.raises(TransientError, match="ended before '030', and '031' comes after"):
        listed(listing_after, ["030", "060"])
    wait_for_threads()


def test_a_bucket_that_lost_its_last_ranges_is_whole() -> None:
    keys = [f"{number:03}" for number in range(20)]
    assert listed(sorting(keys, 3), ["030", "060", "090"]) == keys
    assert listed(ignoring(keys, 3), ["030", "060", "090"]) == keys
    assert listed(sorting([], 3), ["030", "060", "090"]) == []
