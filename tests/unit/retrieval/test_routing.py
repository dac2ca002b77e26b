"""A query stays with the generation that it found, and looks once more when that was dropped."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tasks.errors import GoneError, LockstepError, MisuseError, SourceError, TransientError
from tasks.ledger.generations import Recorded
from tasks.retrieval.routing import Index, Router, to_see


class Store:
    """An alias that points at one collection after the other."""

    def __init__(self, *collections: str) -> None:
        self.collections = list(collections)

    def resolve(self) -> str:
        return self.collections.pop(0) if len(self.collections) > 1 else self.collections[0]


class Noted(Router):
    """Nothing is in canary; what would be noted is kept."""

    def __init__(self) -> None:
        super().__init__("docs", TransientError("the ledger is down"))
        self.noted: list[Any] = []

    def note(self, *noted: Any, **_: Any) -> None:
        self.noted.append(noted)


def index(*collections: str) -> Index:
    """An index of which nothing is connected but its store and its router."""
    made = object.__new__(Index)
    made.store, made.router = cast(Any, Store(*collections)), Noted()
    return made


def ask(on: Index, dropped: set[str], error: LockstepError | None = None) -> list[str]:
    """Ask, and return the collections that were asked; the last answered."""
    asked: list[str] = []
    for attempt in on.attempts("a question"):
        with attempt:
            asked.append(attempt.collection)
            if attempt.collection in dropped:
                raise GoneError("dropped")
            if error:
                raise error
    return asked


@pytest.mark.parametrize(
    ("dropped", "expected"), [(set(), ["docs_g0001"]), ({"docs_g0001"}, ["docs_g0001", "docs_g0002"])]
)
def test_the_alias_is_looked_up_once_and_once_more(dropped: set[str], expected: list[str]) -> None:
    on = index("docs_g0001", "docs_g0002", "docs_g0003")
    assert ask(on, dropped) == expected
    assert cast(Noted, on.router).noted == [], "that a generation was dropped is no failure"


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (TransientError("it does not answer"), [("docs_g0001", 0.0, None)]),
        (SourceError("another bucket"), []),
        (MisuseError("the question's fault"), []),
    ],
)
def test_a_question_that_fails_is_noted_for_a_canary(error: LockstepError, noted: list[Any]) -> None:
    on = index("docs_g0001")
    with pytest.raises(type(error)):
        ask(on, set(), error)
    assert cast(Noted, on.router).noted == noted


@pytest.mark.parametrize("collections", [("docs_g0001",), ("docs_g0001", "docs_g0002")])
def test_what_stays_gone_is_told(collections: tuple[str, ...]) -> None:
    with pytest.raises(GoneError):
        ask(index(*collections), {"docs_g0001", "docs_g0002"})


@pytest.mark.parametrize(("age_ms", "seen"), [(None, None), (0, 7), (-5_000, 7), (58_000, 7), (62_000, None)])
def test_a_question_asks_for_a_recent_write_alone(age_ms: int | None, seen: int | None) -> None:
    """After a minute it can be seen anyway, and a Milvus whose clock went wrong must make nobody wait."""
    assert to_see(Recorded(None, 7, age_ms)) == seen
