"""Which generation is gone on with, which is promoted, and which number the next one has."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import FingerprintError, MisuseError, PartError
from tasks.generations.opening import open_generation, open_named, open_next
from tasks.generations.retention import collect
from tasks.generations.swap import publish, to_go_back_to, to_promote
from tasks.ledger.canary import Canary, begin_canary, canary_of, end_canary
from tasks.ledger.generations import forget_generation, generation_of, mark_ready, settle
from tasks.models import ObjectRef
from tasks.resources import Tools


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


def test_garbage_is_never_what_is_live_or_answers_in_a_canary(tools: Tools) -> None:
    for number in (1, 2, 3):
        opened(tools, 80 + 20 * number)
        live(tools, number)
    alias = tools.store.alias
    tools.work_with(tools.settings.model_copy(update={"keep_generations": 1, "keep_hours": 0.0}))
    begin_canary(tools.ledger, Canary(alias, named(tools, 2), named(tools, 3), (50,), 0, 9.0, 1))
    assert collect.fn(tools, alias) == [named(tools, 1)]
    assert generation_of(tools.ledger, alias, named(tools, 1)) is None
    end_canary(tools.ledger, alias)
    assert collect.fn(tools, alias) == [named(tools, 2)]
    assert collect.fn(tools, alias) == []
    assert tools.store.exists(named(tools, 3))
    with pytest.raises(PartError, match="is live, it is not dropped"):
        tools.store.drop(named(tools, 3))


def test_the_way_back_from_a_canary_is_the_live_generation(tools: Tools) -> None:
    for number in (1, 2):
        opened(tools, 80 + 20 * number)
        live(tools, number)
    opened(tools, 140)
    begin_canary(tools.ledger, Canary(tools.store.alias, named(tools, 3), named(tools, 2), (50,), 0, 9.0, 1))
    assert to_go_back_to.fn(tools) == (named(tools, 2), named(tools, 3))
    assert to_go_back_to.fn(tools, 1) == (named(tools, 1), named(tools, 2)), "a person who names one is believed"
    assert canary_of(tools.ledger, tools.store.alias), "choosing changes nothing"


def test_other_settings_than_the_live_generations_write_nothing(tools: Tools) -> None:
    opened(tools, 100)
    live(tools, 1)
    assert open_generation(tools, print) == named(tools, 1)
    tools.work_with(tools.settings.model_copy(update={"chunk_tokens": 120}))
    with pytest.raises(FingerprintError, match="chunk_tokens: 100 → 120"):
        open_generation(tools, print)
    forget_generation(tools.ledger, named(tools, 1))  # the ledger was lost: what it was built with, Milvus knows
    with pytest.raises(FingerprintError, match="built with other settings"):
        open_generation(tools, print)


def test_a_generation_that_the_ledger_does_not_know_is_doubted_key_by_key(tools: Tools) -> None:
    opened(tools, 100)
    live(tools, 1)
    row = {
        "id": "i1", "embedding": np.full(tools.model.dimension, 0.05, np.float32), "text": "t", "text_hash": "t",
        "key": "a.md", "etag": "e1", "chunk_index": 0, "heading": "", "page": 0, "last_modified": 0, "indexed_at": 0,
        "flow_run_id": "run", "metadata": {},
    }  # fmt: skip
    if tools.store.abilities.bm25:
        row["words"] = "t"
    tools.store.upsert(named(tools, 1), [row])
    forget_generation(tools.ledger, named(tools, 1))
    assert open_generation(tools, print) == named(tools, 1)
    (known,) = tools.ledger.rows(named(tools, 1), ["a.md"]).itertuples()
    assert (known.state, known.indexed_etag) == ("pending", None)
    assert known.etag != "e1", "no listing finds it unchanged"


def test_vectors_are_taken_from_the_live_generation_only_where_they_are_the_same(tools: Tools) -> None:
    opened(tools, 100)
    live(tools, 1)
    opened(tools, 120)
    assert open_named(tools, named(tools, 2)) == named(tools, 2)
    assert tools.donor == named(tools, 1)
    tools.donor = None
    embedder = tools.pipeline.embedder.model_copy(update={"document_prompt": "passage: "})
    tools.work_as(tools.pipeline.model_copy(update={"embedder": embedder}))
    opened(tools, 120)
    assert open_named(tools, named(tools, 3)) == named(tools, 3)
    assert tools.donor is None
    with pytest.raises(MisuseError, match="there is no generation"):
        open_named(tools, named(tools, 9))


def test_a_first_sync_publishes_its_generation_unless_another_was_first(tools: Tools) -> None:
    opened(tools, 100)
    opened(tools, 120)
    tools.store.point_alias(named(tools, 2))  # of another first sync, with these settings
    settle(tools.ledger, tools.store.alias, named(tools, 2))
    publish.fn(tools, named(tools, 1), print)
    assert tools.store.live() == named(tools, 2)
    tools.work_with(tools.settings.model_copy(update={"chunk_tokens": 100}))
    with pytest.raises(FingerprintError, match="chunk_tokens: 120 → 100"):
        publish.fn(tools, named(tools, 1), print)
    assert tools.store.live() == named(tools, 2)


def test_a_generation_that_is_dropped_leaves_no_object_in_the_ledger(tools: Tools) -> None:
    opened(tools, 100)
    tools.ledger.intend(named(tools, 1), [ObjectRef("a.md", "e1", 1, 0)], "run")
    forget_generation(tools.ledger, named(tools, 1))
    assert tools.ledger.rows(named(tools, 1), ["a.md"]).empty
