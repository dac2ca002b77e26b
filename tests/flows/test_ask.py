"""Questions over a real index: extracted, abstained, written by a chat model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from flows.ask import ask
from flows.prefect_runs import without_heartbeat
from flows.sync import sync
from tasks.answers.answer import answer
from tasks.errors import MisuseError, PartError, TransientError
from tasks.generations.canary import fared
from tasks.ledger.canary import Canary, begin_canary, end_canary
from tasks.ledger.database import Database, now
from tasks.listeners import reader
from tasks.pipelines import load_pipeline
from tests.support.chat_server import Say, StubChat, claims
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, new_bucket, sqlite_url

MANUAL = """# Pump manual

## Starting

To start the pump, open the inlet valve and press the green button for three seconds.

## Maintenance

The filter of the pump must be replaced every 400 hours of operation. Use filter type K7 only.
"""


@pytest.fixture
def chat() -> Iterator[StubChat]:
    chat = StubChat()
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def manuals(
    prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[..., str], Bucket]:
    """An indexed bucket, and what saves further pipelines over the same index."""
    bucket = new_bucket(s3_server)
    ledger = sqlite_url(tmp_path_factory.mktemp("ledger"))
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, ledger)
    bucket.put("manuals/pump.md", MANUAL)
    bucket.put("cake.txt", "Mix flour, sugar and eggs, and bake the cake for forty minutes at 180 degrees.")
    sync(make())
    return make, bucket


@pytest.fixture
def manual(manuals: tuple[Callable[..., str], Bucket]) -> str:
    return manuals[0]()


def test_without_a_chat_model_the_answer_is_extracted_and_says_so(manual: str) -> None:
    with without_heartbeat():
        found = ask("How often must the pump's filter be replaced?", manual)
    assert found.mode == "extractive"
    assert "every 400 hours" in found.answer
    first = found.citations[0]
    assert found.passages[0].text[slice(*(first.span or (0, 0)))] == first.quote
    assert (first.n, first.key, first.heading) == (1, "manuals/pump.md", "Pump manual › Maintenance")
    assert all(citation.quote in MANUAL for citation in found.citations)
    assert all(f"[{citation.n}]" in found.answer for citation in found.citations)
    assert {"load", "embed", "search", "extract", "total"} <= found.seconds.keys()
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(found.flow_run_id)
        artifacts = client.read_artifacts()
    assert run.name == f"ask {manual}: How often must the pump's filter be replaced?"
    mine = next(artifact for artifact in artifacts if str(artifact.flow_run_id) == found.flow_run_id)
    assert "every 400 hours" in str(mine.data)
    assert "/manuals/pump.md)" in str(mine.data)
    assert "## Passages found" in str(mine.data)


def test_nothing_relevant_is_said_to_be_nothing(manual: str) -> None:
    found = ask("Who won the football world cup in 1954?", manual)
    assert (found.mode, found.citations) == ("abstained", ())


def test_a_deleted_object_is_no_longer_cited(manuals: tuple[Callable[..., str], Bucket]) -> None:
    make, bucket = manuals
    name = make()
    bucket.put("temporary.md", "# Moon base\n\nThe moon base opens its doors on the second of May.")
    sync(name)
    question = "When does the moon base open its doors?"
    assert ask(question, name).citations[0].key == "temporary.md"
    bucket.delete("temporary.md")
    sync(name)
    assert all(citation.key != "temporary.md" for citation in ask(question, name).citations)


def test_the_plain_path_gives_the_same_answer(manual: str) -> None:
    block = load_pipeline(manual)
    question = "How do I start the pump?"
    plain, recorded = answer(block, question, block.settings), ask(question, manual)
    assert (plain.answer, plain.citations) == (recorded.answer, recorded.citations)
    assert "green button" in plain.answer


@pytest.fixture
def with_chat(manuals: tuple[Callable[..., str], Bucket], chat: StubChat) -> Callable[..., str]:
    """Save a pipeline over the same index whose chat model is the test's."""

    def make(**options: Any) -> str:
        model = ChatModel(base_url=chat.url, api_key=SecretStr("key"), max_retries=1, **options)
        return manuals[0](chat_model=model, name="with-chat")

    return make


QUESTION = "How often must the pump's filter be replaced?"


def test_a_model_answers_with_checked_claims(with_chat: Callable[..., str], chat: StubChat) -> None:
    name = with_chat()
    made = claims(
        ("Every 400 hours.", [(1, "replaced every  400 HOURS of operation"), (9, "anything")]),
        ("It sings.", [(1, "the pump sings at night")]),
    )
    chat.replies = [(200, made)]
    found = ask(QUESTION, name)
    assert found.mode == "generated"
    assert found.answer == "Every 400 hours. [1] It sings. [?]"
    true, false = found.citations
    assert (true.n, true.key, true.quote) == (1, "manuals/pump.md", "replaced every 400 hours of operation")
    assert true.verified
    assert found.passages[0].chunk_id == true.chunk_id
    assert found.passages[0].text[slice(*(true.span or (0, 0)))] == true.quote
    assert true.version == hashlib.md5(MANUAL.encode()).hexdigest()
    assert (false.quote, false.verified, false.span) == ("the pump sings at night", False, None)
    assert [(one.citations, one.verified) for one in found.claims] == [((1,), True), ((1,), False)]
    assert "marked [?]" in found.notes[0]
    assert found.tokens == {"prompt": 11, "completion": 7}
    request = chat.requests[0]
    assert (request["model"], request["authorization"]) == ("served-model", "Bearer key")
    assert "filter type K7" in request["messages"][1]["content"]
    schema = request["response_format"]["json_schema"]["schema"]
    citation = schema["properties"]["claims"]["items"]["properties"]["citations"]["items"]
    assert citation["properties"]["passage"]["enum"] == list(range(1, len(found.passages) + 1))


def test_strict_leaves_out_what_is_not_verified(with_chat: Callable[..., str], chat: StubChat) -> None:
    chat.replies = [(200, claims(("Every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])))]
    block = load_pipeline(with_chat())
    found = ask(QUESTION, "with-chat", block.settings.model_copy(update={"strict": True}))
    assert (found.answer, len(found.citations)) == ("Every 400 hours. [1]", 1)
    chat.replies = [(200, claims(("It sings.", [(1, "it sings")])))]
    found = ask(QUESTION, "with-chat", block.settings.model_copy(update={"strict": True, "top_k": 3}))
    assert (found.mode, found.citations) == ("abstained", ())
    assert "verified" in found.notes[0]


def test_the_same_question_to_the_same_index_is_not_asked_again(
    manuals: tuple[Callable[..., str], Bucket], with_chat: Callable[..., str], chat: StubChat
) -> None:
    chat.replies = [(200, claims(("Every 400 hours.", [(1, "every 400 hours")])))]
    name = with_chat()
    first, again = ask(QUESTION, name), ask(QUESTION, name)
    assert (first.cached, again.cached, len(chat.requests)) == (False, True, 1)
    assert (again.answer, again.citations, again.claims) == (first.answer, first.citations, first.claims)
    assert again.tokens == {}
    assert any("--no-cache" in note for note in again.notes)
    block = load_pipeline(name)
    assert answer(block, QUESTION, block.settings).cached
    assert not ask(QUESTION, name, block.settings.model_copy(update={"cache_seconds": 0})).cached
    assert not ask(QUESTION, name, block.settings.model_copy(update={"temperature": 0.5})).cached
    assert not ask(QUESTION + " Please.", name).cached
    asked = len(chat.requests)
    _, bucket = manuals
    bucket.put("unrelated.txt", "The lighthouse keeper counts the gulls at noon on every second Sunday.")
    sync(name)
    assert not ask(QUESTION, name).cached
    assert ask(QUESTION, name).cached
    bucket.delete("unrelated.txt")
    sync(name)
    assert ask(QUESTION, name).cached, "the index is again what it was when the first answer was written"
    assert len(chat.requests) == asked + 1


def test_what_failed_or_was_cut_off_is_not_kept(with_chat: Callable[..., str], chat: StubChat) -> None:
    cut = claims(("Every 400 hours.", [(1, "every 400 hours")]), ("And", []))[:-20]
    chat.replies = [(200, Say(cut, finish="length"))]
    name = with_chat()
    found = ask(QUESTION, name)
    assert found.answer == "Every 400 hours. [1]"
    assert any("LOCKSTEP_MAX_ANSWER_TOKENS" in note for note in found.notes)
    assert not ask(QUESTION, name).cached


def test_a_canary_sees_what_the_model_answered(with_chat: Callable[..., str], chat: StubChat) -> None:
    """Not only what was found: a model that says no, or fails, counts as well."""
    block = load_pipeline(with_chat())
    ledger, settings = Database(block.ledger), block.settings.model_copy(update={"cache_seconds": 0.0})
    live = f"{block.alias}_g0001"
    begin_canary(ledger, Canary(block.alias, f"{block.alias}_g0002", live, (1,), 0, 900.0, now()))
    try:
        for reply in (claims(("Every 400 hours.", [(1, "every 400 hours")])), claims(answerable=False)):
            chat.replies = [(200, reply)]
            assert answer(block, QUESTION, settings).collection == live
        chat.replies = [(401, {"error": {"message": "no"}})]
        with pytest.raises(PartError):
            answer(block, QUESTION, settings)
        how = fared(ledger, block.alias, live)
    finally:
        end_canary(ledger, block.alias)
    assert (how.questions, round(how.errors, 2), how.abstention) == (3, 0.33, 0.5)


def test_a_model_that_finds_no_answer_abstains(with_chat: Callable[..., str], chat: StubChat) -> None:
    chat.replies = [(200, claims(answerable=False))]
    found = ask(QUESTION, with_chat())
    assert (found.mode, found.citations, found.tokens) == ("abstained", (), {"prompt": 11, "completion": 7})


def test_an_answer_without_citations_is_marked(with_chat: Callable[..., str], chat: StubChat) -> None:
    chat.replies = [(200, "Every now and then.")]
    found = ask(QUESTION, with_chat())
    assert (found.answer, found.citations) == ("Every now and then. [?]", ())
    assert "do not rely" in found.notes[0]


def test_the_plain_path_and_the_flow_hand_the_answer_on_as_it_comes(
    with_chat: Callable[..., str], chat: StubChat
) -> None:
    chat.replies = [(200, claims(("Every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])))]
    block = load_pipeline(with_chat())
    fresh = block.settings.model_copy(update={"cache_seconds": 0.0})
    for run in (lambda: ask(QUESTION, "with-chat", fresh), lambda: answer(block, QUESTION, fresh)):
        read: list[str] = []
        token = reader.set(lambda piece, read=read: read.append(piece.text))
        found = run()
        reader.reset(token)
        assert read == ["Every 400 hours. [1] ", "It sings. [?] "]
        assert found.answer == "".join(read).strip()
        assert found.tokens == {"prompt": 11, "completion": 7}


def test_a_chat_model_that_fails_is_stood_in_for_if_so_set(with_chat: Callable[..., str], chat: StubChat) -> None:
    chat.replies = [(200, b"<html>welcome to nginx</html>")]
    block = load_pipeline(with_chat(model="named"))
    settings = block.settings.model_copy(update={"fallback": "extractive"})
    found = ask(QUESTION, "with-chat", settings)
    assert found.mode == "extractive"
    assert "every 400 hours" in found.answer
    assert "OpenAI-compatible" in found.notes[0]
    assert not ask(QUESTION, "with-chat", settings).cached


@pytest.mark.parametrize(
    ("status", "reply", "kind", "words"),
    [
        (401, {"error": {"message": "no"}}, PartError, "VLLM_API_KEY"),
        (404, {"error": {"message": "no such model"}}, PartError, "LLM_MODEL"),
        (500, {"error": {"message": "broken"}}, TransientError, "VLLM_BASE_URL"),
        (200, b"<html>welcome to nginx</html>", PartError, "OpenAI-compatible"),
    ],
)
def test_a_chat_model_that_fails_is_named(
    with_chat: Callable[..., str], chat: StubChat, status: int, reply: Any, kind: type, words: str
) -> None:
    chat.replies = [(status, reply)]
    with pytest.raises(kind, match=words):
        ask(QUESTION, with_chat(model="named"))


def test_a_chat_model_that_is_not_there_is_named(manuals: tuple[Callable[..., str], Bucket]) -> None:
    nobody = ChatModel(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9.*VLLM_BASE_URL"):
        ask(QUESTION, manuals[0](chat_model=nobody, name="nobody"))


def test_asking_before_the_first_sync_says_what_to_do(make_pipeline: Callable[..., str]) -> None:
    with pytest.raises(PartError, match="lockstep sync"):
        ask("Anything?", make_pipeline())


def test_an_index_that_holds_nothing_says_so(
    manuals: tuple[Callable[..., str], Bucket], s3_server: Server, milvus_lite: Server, tmp_path: Path
) -> None:
    name = pipeline_maker(new_bucket(s3_server), s3_server.url, milvus_lite.url, sqlite_url(tmp_path))()
    sync(name)
    found = ask("Anything?", name)
    assert (found.mode, found.passages) == ("abstained", ())
    assert "lockstep sync" in found.notes[0]


def test_an_empty_question_is_misuse(manual: str) -> None:
    with pytest.raises(MisuseError, match="empty"):
        ask("   ", manual)
