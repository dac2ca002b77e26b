"""What is in quarantine can be looked at, tried again, and never answers unmarked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deployments.questions import Question, search_all
from flows.ask import ask
from flows.sync import sync
from tasks.errors import MisuseError
from tasks.pipelines import load_pipeline
from tasks.quarantine import contents, release
from tests.conftest import Bucket

GOOD = "The last good version says: turn the valve to the left."
BROKEN = b"\x00\x01\x02\x03" * 100


@pytest.fixture
def pipeline(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A pipeline of one object with a good version that answers and a broken one in quarantine."""
    bucket.put("valve.txt", GOOD)
    bucket.put("other.txt", "Another text, about the weekly backup of the ledger.")
    name = make_pipeline()
    sync(name)
    bucket.put("valve.txt", BROKEN)
    sync(name)
    return name


def test_an_older_version_answers_and_says_so(pipeline: str, bucket: Bucket) -> None:
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the left" in answer.answer
    assert [citation.outdated for citation in answer.citations if citation.key == "valve.txt"] == [True]
    assert any("valve.txt" in note and "quarantine" in note for note in answer.notes)
    block = load_pipeline(pipeline)
    (found,) = search_all(block, [Question("", "Which way do I turn the valve?")], block.settings)
    assert {hit.key: hit.outdated for hit in found.hits} == {"valve.txt": True, "other.txt": False}

    bucket.put("valve.txt", GOOD.replace("left", "right"))
    sync(pipeline)
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the right" in answer.answer
    assert not any(citation.outdated for citation in answer.citations)
    assert contents(pipeline) == []


def test_a_ledger_that_is_down_does_not_stop_an_answer(pipeline: str, make_pipeline: Callable[..., str]) -> None:
    make_pipeline(ledger="postgresql://a:b@127.0.0.1:9/x")
    answer = ask("Which way do I turn the valve?", pipeline)
    assert "to the left" in answer.answer
    assert any("cannot tell whether these are the newest" in note for note in answer.notes)


def test_a_retry_is_for_the_next_sync(pipeline: str) -> None:
    (row,) = contents(pipeline)
    assert (row["key"], row["attempts"], row["older_version_answers"]) == ("valve.txt", 1, True)
    assert "binary" in row["reason"] or "UTF-8" in row["reason"]
    with pytest.raises(MisuseError, match=r"not in quarantine: nobody\.txt"):
        release(pipeline, ["valve.txt", "nobody.txt"])
    assert release(pipeline, ["valve.txt"]) == ["valve.txt"]
    assert contents(pipeline) == []
    report = sync(pipeline)
    assert (report.changed, report.quarantined) == (1, 1)
    assert contents(pipeline)[0]["attempts"] == 2
    assert release(pipeline) == ["valve.txt"]


def test_an_object_that_was_deleted_in_between_has_no_older_version(pipeline: str, bucket: Bucket) -> None:
    bucket.delete("valve.txt")
    sync(pipeline)
    bucket.put("valve.txt", BROKEN)
    sync(pipeline)
    assert contents(pipeline)[0]["older_version_answers"] is False
    assert not any(citation.key == "valve.txt" for citation in ask("Turn the valve?", pipeline).citations)
