"""A query stays with the generation that it found, and looks once more when that was dropped."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import GoneError, TransientError
from tasks.retrieval.routing import on_live


class Store:
    """An alias that points at one collection after the other."""

    alias = "docs"

    def __init__(self, *collections: str) -> None:
        self.collections = list(collections)

    def live(self) -> str:
        return self.collections.pop(0) if len(self.collections) > 1 else self.collections[0]

    def built_with(self, _collection: str) -> None:
        return None

    def source_of(self, _collection: str) -> None:
        return None


class NoCanary:
    """Nothing is in canary."""

    sources = None

    def collection(self, live: str, _asker: str) -> str:
        return live

    def search_params(self, _collection: str) -> None:
        return None

    def note(self, *noted: Any) -> None:
        self.noted = noted


WATCH: Any = NoCanary()


def query(dropped: set[str], asked: list[str]) -> Any:
    def run(collection: str, _pipeline: Any) -> str:
        asked.append(collection)
        if collection in dropped:
            raise GoneError("dropped")
        return collection

    return run


@pytest.fixture(autouse=True)
def any_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.retrieval.retrieve.with_settings_of", lambda pipeline, *_built: pipeline)


@pytest.mark.parametrize(
    ("dropped", "expected"), [(set(), ["docs_g0001"]), ({"docs_g0001"}, ["docs_g0001", "docs_g0002"])]
)
def test_the_alias_is_looked_up_once_and_once_more(dropped: set[str], expected: list[str]) -> None:
    asked: list[str] = []
    store: Any = Store("docs_g0001", "docs_g0002", "docs_g0003")
    assert on_live(store, None, query(dropped, asked), WATCH) == expected[-1]  # type: ignore[arg-type]
    assert asked == expected


def test_a_question_that_fails_is_noted_for_a_canary() -> None:
    def fail(_collection: str, _pipeline: Any) -> str:
        raise TransientError("it does not answer")

    store, watch = Store("docs_g0001"), NoCanary()
    with pytest.raises(TransientError):
        on_live(store, None, fail, watch)  # type: ignore[arg-type]
    assert watch.noted == ("docs_g0001", 0.0, None)


@pytest.mark.parametrize("collections", [("docs_g0001",), ("docs_g0001", "docs_g0002")])
def test_what_stays_gone_is_told(collections: tuple[str, ...]) -> None:
    store: Any = Store(*collections)
    with pytest.raises(GoneError):
        on_live(store, None, query({"docs_g0001", "docs_g0002"}, []), WATCH)  # type: ignore[arg-type]
