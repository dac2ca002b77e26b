"""Which generation is gone on with, which is promoted, and which number the next one has."""

from __future__ import annotations

import pytest

from tasks.errors import MisuseError
from tasks.generation import open_next
from tasks.generations import forget_generation, mark_ready, settle
from tasks.swap import to_go_back_to, to_promote
from tasks.tools import Tools


def opened(tools: Tools, chunk_tokens: int) -> int:
    """Open the next generation with some settings, as a rebuild does; returns its number."""
    tools.work_with(tools.settings.model_copy(update={"chunk_tokens": chunk_tokens}))
    return int(open_next(tools, lambda _line: None).rsplit("_g", 1)[1])


def named(tools: Tools, number: int) -> str:
    return f"{tools.store.alias}_g{number:04d}"


def live(tools: Tools, number: int) -> None:
    tools.store.point_alias(named(tools, number))
    settle(tools.ledger, tools.store.alias, named(tools, number))


def test_what_was_begun_is_gone_on_with_unless_a_newer_one_is_live(tools: Tools) -> None:
    assert opened(tools, 100) == 1
    assert opened(tools, 100) == 1, "the run before died: this one goes on"
    assert opened(tools, 120) == 2
    live(tools, 2)
    assert opened(tools, 100) == 3, "what is older than the live one is garbage, however it was built"
    assert opened(tools, 100) == 3
    mark_ready(tools.ledger, named(tools, 3))
    assert opened(tools, 100) == 3, "one that is ready and waits is gone on with"


def test_only_what_is_newer_than_the_live_one_is_promoted_by_itself(tools: Tools) -> None:
    opened(tools, 100)
    mark_ready(tools.ledger, named(tools, 1))
    opened(tools, 120)
    live(tools, 2)
    with pytest.raises(MisuseError, match=r"no generation of .* is ready to be promoted"):
        to_promote.fn(tools)
    assert to_promote.fn(tools, 1)[0].number == 1, "a person who names it is believed"
    opened(tools, 140)
    with pytest.raises(MisuseError, match=r"no generation of .* is ready to be promoted"):
        to_promote.fn(tools)
    mark_ready(tools.ledger, named(tools, 3))
    opened(tools, 160)
    mark_ready(tools.ledger, named(tools, 4))
    chosen, beside = to_promote.fn(tools)
    assert (chosen.number, beside) == (4, named(tools, 2)), "the newest"
    with pytest.raises(MisuseError, match="is live, not ready"):
        to_promote.fn(tools, 2)


def test_the_way_back_is_the_generation_that_was_live_last(tools: Tools) -> None:
    for number in (1, 2, 3):
        opened(tools, 80 + 20 * number)
        live(tools, number)
    live(tools, 1)
    assert to_go_back_to.fn(tools) == (named(tools, 3), named(tools, 1))
    tools.store.client.drop_collection(named(tools, 3))
    assert to_go_back_to.fn(tools) == (named(tools, 2), named(tools, 1)), "one that is there"
    with pytest.raises(MisuseError, match="not one to go back to"):
        to_go_back_to.fn(tools, 3)


def test_a_number_that_milvus_or_the_ledger_knows_is_not_given_again(tools: Tools) -> None:
    opened(tools, 100)
    opened(tools, 120)
    for number in (1, 2):
        forget_generation(tools.ledger, named(tools, number))  # the ledger was lost
    assert opened(tools, 140) == 3
    tools.store.client.drop_collection(named(tools, 3))
    assert opened(tools, 160) == 4
