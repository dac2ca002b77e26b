"""Searches that wait go together; nobody waits for company, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.server import searching
from deployments.server.errors import OverloadedError
from deployments.server.searching import Kind, Searching
from tasks.errors import MisuseError, TransientError
from tasks.retrieval.batch_search import Found, Tell
from tasks.retrieval.question import Question
from tasks.retrieval.scope import EVERYTHING, Scope

DENSE = Kind((("mode", "dense"),), EVERYTHING)
LEXICAL = Kind((("mode", "lexical"),), EVERYTHING)
ACME = Kind((("mode", "dense"),), Scope("", "acme"))
WAITING = 200
Embedded = Callable[[float], None]


@dataclass
class Group:
    """A group that is under way."""

    questions: list[str]
    settings: dict[str, Any]
    scope: Scope
    tell: Tell
    embedded: Embedded
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def finish(self) -> None:
        self.tell({at: Found(one, "g", (), {}) for at, one in enumerate(self.questions)})
        self.done.set_result(None)


class Pipeline:
    """Has settings that say what they were replaced by."""

    settings: Any

    def __init__(self) -> None:
        self.settings = self

    def model_copy(self, update: dict[str, Any]) -> dict[str, Any]:
        return update


class Index:
    """Collects the groups that are begun; each ends when a test ends it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[Group] = []
        monkeypatch.setattr(searching, "search_together", self._begun)
        self.searching = Searching("docs", self._run, WAITING)

    def _begun(
        self, _pipeline: Any, asked: list[Question], settings: Any, _connections: Any, scope: Scope, *told: Any
    ) -> None:
        self.groups.append(Group([one.question for one in asked], settings, scope, *told))

    async def _run(self, work: Callable[[Any, Any], Any]) -> Any:
        work(Pipeline(), None)
        return await self.groups[-1].done

    def ask(self, question: str, kind: Kind = DENSE) -> asyncio.Task[Found]:
        return asyncio.create_task(self.searching.search(Question("", question), kind))

    @property
    def begun(self) -> list[list[str]]:
        return [group.questions for group in self.groups]


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    return Index(monkeypatch)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_what_comes_meanwhile_goes_together_and_each_gets_its_own(index: Index) -> None:
    async def ask() -> None:
        first = index.ask("first")
        await turns()
        others = [index.ask(f"{number}") for number in range(3)]
        await turns()
        assert index.begun == [["first"]], "a lone search begins at once, and the others wait for it"
        index.groups[0].finish()
        assert (await first).id == "first"
        await turns()
        assert index.begun == [["first"], ["0", "1", "2"]]
        index.groups[1].finish()
        assert [(await one).id for one in others] == ["0", "1", "2"]
        assert (index.groups[1].settings, index.groups[1].scope) == ({"mode": "dense"}, EVERYTHING)

    run(ask())


def test_another_mode_or_tenant_is_another_group(index: Index) -> None:
    async def ask() -> None:
        asked = [index.ask("a", DENSE), index.ask("b", LEXICAL), index.ask("c", ACME)]
        await turns()
        assert index.begun == [["a"], ["b"], ["c"]]
        assert [group.scope for group in index.groups] == [EVERYTHING, EVERYTHING, ACME.scope]
        for group in index.groups:
            group.finish()
        await asyncio.gather(*asked)

    run(ask())


def test_a_search_that_takes_longer_than_its_embedding_holds_up_nobody(index: Index) -> None:
    async def ask() -> None:
        asked = [index.ask("far away")]
        await turns()
        asked.append(index.ask("next"))
        await turns()
        assert len(index.groups) == 1, "it is still being embedded"
        index.groups[0].embedded(0.02)
        while len(index.groups) < 2:
            await asyncio.sleep(0.005)
        asked.append(index.ask("third"))
        index.groups[0].finish()  # it had let go before, and does not let go for the second
        await turns()
        assert len(index.groups) == 2
        index.groups[1].finish()
        await turns()
        index.groups[2].finish()
        assert [(await one).id for one in asked] == ["far away", "next", "third"]

    run(ask())


def test_a_group_that_never_comes_to_its_search_holds_up_the_next_for_a_moment(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads a model, or waits for a ledger that hangs; and an embedding that took long gives no right to more."""
    monkeypatch.setattr(searching, "MOST_SECONDS", 0.1)

    async def ask() -> None:
        asked = [index.ask("loads a model")]
        await turns()
        asked.append(index.ask("next"))
        while len(index.groups) < 2:
            await asyncio.sleep(0.005)
        asked.append(index.ask("third"))
        index.groups[1].embedded(600.0)
        while len(index.groups) < 3:
            await asyncio.sleep(0.005)
        for group in index.groups:
            group.finish()
        await asyncio.gather(*asked)

    run(ask())


def test_who_has_gone_is_not_searched_for(index: Index) -> None:
    async def ask() -> None:
        first = index.ask("first")
        await turns()
        gone, stays = index.ask("gone"), index.ask("stays")
        await turns()
        gone.cancel()
        index.groups[0].finish()
        await first
        await turns()
        assert index.begun[1] == ["stays"]
        also_gone = index.ask("also gone")
        await turns()
        also_gone.cancel()
        index.groups[1].finish()
        assert (await stays).id == "stays"
        await turns()
        later = index.ask("later")
        await turns()
        assert index.begun[2:] == [["later"]]
        index.groups[2].finish()
        assert (await later).id == "later"

    run(ask())


def test_an_error_of_one_is_its_own_and_an_error_of_the_index_everybodys(index: Index) -> None:
    async def ask() -> None:
        first = index.ask("first")
        await turns()
        bad, good = index.ask("bad"), index.ask("good")
        await turns()
        index.groups[0].done.set_exception(TransientError("Milvus is away"))
        with pytest.raises(TransientError, match="away"):
            await first
        await turns()
        index.groups[1].tell({0: MisuseError("personal data")})
        with pytest.raises(MisuseError, match="personal data"):
            await bad
        assert not good.done(), "whoever is done need not wait for the others"
        index.groups[1].tell({1: Found("good", "g", (), {})})
        assert (await good).id == "good"
        index.groups[1].done.set_exception(TransientError("too late to matter"))
        await turns()
        again = index.ask("again")
        await turns()
        index.groups[2].finish()
        assert (await again).id == "again"

    run(ask())


def test_too_many_are_refused_at_once_and_those_that_wait_are_answered(index: Index) -> None:
    async def ask() -> None:
        asked = [index.ask("first")]
        await turns()
        asked += [index.ask("waits") for _ in range(WAITING - 1)]
        await turns()
        with pytest.raises(OverloadedError, match="docs"):
            await index.searching.search(Question("", "one too many"), ACME)
        finished = 0
        while finished < len(index.groups):
            index.groups[finished].finish()
            finished += 1
            await turns()
        assert len(await asyncio.gather(*asked)) == WAITING
        assert max(map(len, index.begun)) == searching.MOST_QUESTIONS

    run(ask())
