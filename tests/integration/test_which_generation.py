"""Which generation is gone on with, which is promoted, and which number the next one has."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import FingerprintError, MisuseError, PartError
from tasks.generations.opening import open_generation, open_named, open_next
from tasks.generations.retention import collect
from tasks.generations.swap import publish, to_go_back_to, to_promote
from tasks.ledger.canary import Canary, begin_canary, canary_of, end_canary
from tasks.ledger.generations import follow_alias_in_ledger, forget_generation, generation_of, mark_ready
from tasks.ledger.objects import object_rows, record_wanted
from tasks.models import ObjectRef
from tasks.resources import Resources


def opened(resources: Resources, chunk_tokens: int) -> int:
    """Open the next generation with some settings, as a rebuild does; returns its number."""
    resources.work_with(resources.settings.model_copy(update={"chunk_tokens": chunk_tokens}))
    return int(open_next(resources).rsplit("_g", 1)[1])


def named(resources: Resources, number: int) -> str:
    return f"{resources.store.alias}_g{number:04d}"


def live(resources: Resources, number: int) -> None:
    resources.store.point_alias(named(resources, number))
    follow_alias_in_ledger(resources.ledger, resources.store.alias, named(resources, number))


def test_what_was_begun_is_gone_on_with_unless_a_newer_one_is_live(resources: Resources) -> None:
    assert opened(resources, 100) == 1
    assert opened(resources, 100) == 1, "the run before died: this one goes on"
    assert opened(resources, 120) == 2
    live(resources, 2)
    assert opened(resources, 100) == 3, "what is older than the live one is garbage, however it was built"
    assert opened(resources, 100) == 3
    mark_ready(resources.ledger, named(resources, 3))
    assert opened(resources, 100) == 3, "one that is ready and waits is gone on with"


def test_only_what_is_newer_than_the_live_one_is_promoted_by_itself(resources: Resources) -> None:
    opened(resources, 100)
    mark_ready(resources.ledger, named(resources, 1))
    opened(resources, 120)
    live(resources, 2)
    with pytest.raises(MisuseError, match=r"no generation of .* is ready to be promoted"):
        to_promote.fn(resources)
    assert to_promote.fn(resources, 1)[0].number == 1, "a person who names it is believed"
    opened(resources, 140)
    with pytest.raises(MisuseError, match=r"no generation of .* is ready to be promoted"):
        to_promote.fn(resources)
    mark_ready(resources.ledger, named(resources, 3))
    opened(resources, 160)
    mark_ready(resources.ledger, named(resources, 4))
    chosen, beside = to_promote.fn(resources)
    assert (chosen.number, beside) == (4, named(resources, 2)), "the newest"
    with pytest.raises(MisuseError, match="is live, not ready"):
        to_promote.fn(resources, 2)


def test_the_way_back_is_the_generation_that_was_live_last(resources: Resources) -> None:
    for number in (1, 2, 3):
        opened(resources, 80 + 20 * number)
        live(resources, number)
    live(resources, 1)
    assert to_go_back_to.fn(resources) == (named(resources, 3), named(resources, 1))
    resources.store.client.drop_collection(named(resources, 3))
    assert to_go_back_to.fn(resources) == (named(resources, 2), named(resources, 1)), "one that is there"
    with pytest.raises(MisuseError, match="so no rollback to it is possible"):
        to_go_back_to.fn(resources, 3)


def test_a_number_that_milvus_or_the_ledger_knows_is_not_given_again(resources: Resources) -> None:
    opened(resources, 100)
    opened(resources, 120)
    for number in (1, 2):
        forget_generation(resources.ledger, named(resources, number))  # the ledger was lost
    assert opened(resources, 140) == 3
    resources.store.client.drop_collection(named(resources, 3))
    assert opened(resources, 160) == 4


def test_garbage_is_never_what_is_live_or_answers_in_a_canary(resources: Resources) -> None:
    for number in (1, 2, 3):
        opened(resources, 80 + 20 * number)
        live(resources, number)
    alias = resources.store.alias
    resources.work_with(resources.settings.model_copy(update={"keep_generations": 1, "keep_hours": 0.0}))
    begin_canary(resources.ledger, Canary(alias, named(resources, 2), named(resources, 3), (50,), 0, 9.0, 1))
    assert collect.fn(resources, alias) == [named(resources, 1)]
    assert generation_of(resources.ledger, alias, named(resources, 1)) is None
    end_canary(resources.ledger, alias)
    assert collect.fn(resources, alias) == [named(resources, 2)]
    assert collect.fn(resources, alias) == []
    assert resources.store.exists(named(resources, 3))
    with pytest.raises(PartError, match="is live, so it was not dropped"):
        resources.store.drop(named(resources, 3))


def test_the_way_back_from_a_canary_is_the_live_generation(resources: Resources) -> None:
    for number in (1, 2):
        opened(resources, 80 + 20 * number)
        live(resources, number)
    opened(resources, 140)
    begin_canary(
        resources.ledger, Canary(resources.store.alias, named(resources, 3), named(resources, 2), (50,), 0, 9.0, 1)
    )
    assert to_go_back_to.fn(resources) == (named(resources, 2), named(resources, 3))
    assert to_go_back_to.fn(resources, 1) == (named(resources, 1), named(resources, 2)), (
        "a person who names one is believed"
    )
    assert canary_of(resources.ledger, resources.store.alias), "choosing changes nothing"


def test_other_settings_than_the_live_generations_write_nothing(resources: Resources) -> None:
    opened(resources, 100)
    live(resources, 1)
    assert open_generation(resources) == named(resources, 1)
    resources.work_with(resources.settings.model_copy(update={"chunk_tokens": 120}))
    with pytest.raises(FingerprintError, match="chunk_tokens: 100 → 120"):
        open_generation(resources)
    forget_generation(
        resources.ledger, named(resources, 1)
    )  # the ledger was lost: what it was built with, Milvus knows
    with pytest.raises(FingerprintError, match="built with other settings"):
        open_generation(resources)


def test_a_generation_that_the_ledger_does_not_know_is_doubted_key_by_key(resources: Resources) -> None:
    opened(resources, 100)
    live(resources, 1)
    row = {
        "id": "i1", "embedding": np.full(resources.model.dimension, 0.05, np.float32), "text": "t", "text_hash": "t",
        "key": "a.md", "etag": "e1", "chunk_index": 0, "heading": "", "page": 0, "last_modified": 0, "indexed_at": 0,
        "flow_run_id": "run", "metadata": {},
    }  # fmt: skip
    if resources.store.capabilities.bm25:
        row["words"] = "t"
    resources.store.upsert(named(resources, 1), [row])
    forget_generation(resources.ledger, named(resources, 1))
    assert open_generation(resources) == named(resources, 1)
    known = object_rows(resources.ledger, named(resources, 1), ["a.md"])["a.md"]
    assert (known.state, known.indexed_etag) == ("pending", None)
    assert known.etag != "e1", "no listing finds it unchanged"


def test_vectors_are_taken_from_the_live_generation_only_where_they_are_the_same(resources: Resources) -> None:
    opened(resources, 100)
    live(resources, 1)
    opened(resources, 120)
    assert open_named(resources, named(resources, 2)) == named(resources, 2)
    assert resources.donor == named(resources, 1)
    resources.donor = None
    embedder = resources.pipeline.embedder.model_copy(update={"document_prompt": "passage: "})
    resources.work_as(resources.pipeline.model_copy(update={"embedder": embedder}))
    opened(resources, 120)
    assert open_named(resources, named(resources, 3)) == named(resources, 3)
    assert resources.donor is None
    with pytest.raises(MisuseError, match="there is no generation"):
        open_named(resources, named(resources, 9))


def test_a_first_sync_publishes_its_generation_unless_another_was_first(resources: Resources) -> None:
    opened(resources, 100)
    opened(resources, 120)
    resources.store.point_alias(named(resources, 2))  # of another first sync, with these settings
    follow_alias_in_ledger(resources.ledger, resources.store.alias, named(resources, 2))
    publish.fn(resources, named(resources, 1))
    assert resources.store.live() == named(resources, 2)
    resources.work_with(resources.settings.model_copy(update={"chunk_tokens": 100}))
    with pytest.raises(FingerprintError, match="chunk_tokens: 120 → 100"):
        publish.fn(resources, named(resources, 1))
    assert resources.store.live() == named(resources, 2)


def test_a_generation_that_is_dropped_leaves_no_object_in_the_ledger(resources: Resources) -> None:
    opened(resources, 100)
    record_wanted(resources.ledger, named(resources, 1), [ObjectRef("a.md", "e1", 1, 0)], "run")
    forget_generation(resources.ledger, named(resources, 1))
    assert object_rows(resources.ledger, named(resources, 1), ["a.md"]) == {}
