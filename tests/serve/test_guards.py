"""Guards of the service: what is masked, refused or withheld, on every way in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from blocks.chat_model import ChatModel
from tasks.answers.release import WITHHELD
from tasks.guards.moderation import UNCHECKED_NOTE
from tests.serve.conftest import QUESTION, Index, Service
from tests.serve.test_history import rows
from tests.serve.test_questions import events
from tests.support.chat_server import Say, StubChat, claims
from tests.support.moderation_server import StubModeration
from tests.support.servers import free_port

MAIL = "eve@example.org"
ASKED = f"I am {MAIL}. {QUESTION}"
TOLD = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
    (f"Ask {MAIL} or call +49 30 901820.", [(1, f"call {MAIL} for help")]),
)


@pytest.fixture
def moderation() -> Iterator[StubModeration]:
    moderation = StubModeration()
    yield moderation
    moderation.close()


@pytest.fixture(scope="module")
def lighthouse(index: Index) -> Iterator[str]:
    """A document with an address, which it returns."""
    from flows.sync import sync

    address = "keeper@lighthouse.example"
    index.bucket.put("contacts.md", f"# Contacts\n\nThe keeper of the lighthouse is reached at {address} on weekdays.")
    sync(index.name)
    yield address
    index.bucket.delete("contacts.md")
    sync(index.name)


@pytest.fixture
def guarded(index: Index, chat: StubChat, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Save a pipeline over the index with a chat model and guards; nothing is cached."""

    def make(with_chat: bool = True, **settings: Any) -> str:
        name = f"guarded-{abs(hash(request.node.nodeid)) % 10**9}"
        model = ChatModel(base_url=chat.url, max_retries=0) if with_chat else None
        chat.replies = chat.replies or [(200, Say(TOLD))]
        usual: dict[str, Any] = {"cache_seconds": 0.0, "min_score": -1.0}
        return index.make(name=name, chat_model=model, **usual | settings)

    return make


def sent_to(chat: StubChat) -> str:
    """Return everything that the chat model was sent."""
    return json.dumps([request["messages"] for request in chat.requests])


def test_what_is_masked_reaches_neither_search_nor_chat_nor_the_asker(
    client: httpx.Client, guarded: Callable[..., str], chat: StubChat
) -> None:
    name = guarded(personal_data="mask")
    whole = client.post("/ask", json={"question": ASKED, "pipeline": name})
    told = whole.json()
    assert MAIL not in sent_to(chat)
    assert "I am <EMAIL_ADDRESS>." in sent_to(chat)
    assert MAIL not in whole.text
    assert "901820" not in whole.text
    assert "Ask <EMAIL_ADDRESS> or call <PHONE_NUMBER>." in told["answer"]
    assert told["claims"][1]["text"] == "Ask <EMAIL_ADDRESS> or call <PHONE_NUMBER>."
    assert [one["quote"] for one in told["citations"]] == ["every 400 hours", "call <EMAIL_ADDRESS> for help"]
    assert told["citations"][0]["verified"]
    assert told["notes"][:2] == [
        "personal data in the question was masked before anything was asked: an e-mail address",
        "personal data in the answer is masked: an e-mail address, a phone number",
    ]
    assert told["seconds"]["guard"] >= 0


def test_masked_pieces_are_streamed_as_they_come(client: httpx.Client, guarded: Callable[..., str]) -> None:
    name = guarded(personal_data="mask")
    with client.stream("POST", "/ask", json={"question": QUESTION, "pipeline": name, "stream": True}) as answer:
        told = list(events(answer))
    assert MAIL not in json.dumps(told)
    assert [event for event, _ in told] == ["citation", "claim", "citation", "claim", "answer"]
    assert "".join(data["text"] for event, data in told if event == "claim").strip() == told[-1][1]["answer"]


@pytest.mark.parametrize("mode", ["mask", "refuse"])
def test_quotes_of_documents_are_masked_with_the_answer(
    client: httpx.Client, index: Index, lighthouse: str, guarded: Callable[..., str], mode: str
) -> None:
    name, question = guarded(with_chat=False, personal_data=mode), "How is the keeper of the lighthouse reached?"
    told = client.post("/ask", json={"question": question, "pipeline": name})
    assert told.json()["mode"] == "extractive"
    assert "<EMAIL_ADDRESS> on weekdays" in told.json()["answer"]
    assert lighthouse not in told.text
    assert lighthouse in client.post("/search", json={"question": question, "pipeline": name}).text
    assert lighthouse in client.post("/ask", json={"question": question, "pipeline": index.name}).text


@pytest.mark.parametrize("route", ["/search", "/ask", "/v1/chat/completions", "/v1/vector_stores/{}/search"])
def test_what_is_refused_is_told_by_its_kind_on_every_route(
    client: httpx.Client, guarded: Callable[..., str], chat: StubChat, route: str
) -> None:
    name = guarded(personal_data="refuse")
    bodies = {
        "/search": {"question": ASKED, "pipeline": name},
        "/ask": {"question": ASKED, "pipeline": name},
        "/v1/chat/completions": {"model": name, "messages": [{"role": "user", "content": ASKED}]},
        "/v1/vector_stores/{}/search": {"query": ASKED},
    }
    answer = client.post(route.format(name), json=bodies[route])
    assert answer.status_code == 400
    assert "an e-mail address" in answer.json()["error"]["message"]
    assert MAIL not in answer.text
    assert not chat.requests


def test_a_search_is_masked_and_says_so(client: httpx.Client, guarded: Callable[..., str]) -> None:
    told = client.post("/search", json={"question": ASKED, "pipeline": guarded(personal_data="mask")}).json()
    assert "an e-mail address" in told["notes"][0]
    assert told["hits"]


def test_a_conversation_is_masked_before_it_is_condensed_and_a_task_before_it_is_done(
    service: Service, guarded: Callable[..., str], chat: StubChat
) -> None:
    name = guarded(personal_data="refuse")
    chat.replies = [(200, Say(json.dumps({"question": QUESTION}))), (200, Say(TOLD))]
    ai = service.openai()
    turns: Any = [
        {"role": "user", "content": f"I am {MAIL}."}, {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": QUESTION},
    ]  # fmt: skip
    assert MAIL not in ai.chat.completions.create(model=name, messages=turns).model_dump_json()
    with pytest.raises(openai.BadRequestError, match="an e-mail address"):
        ai.chat.completions.create(model=name, messages=[*turns[:2], {"role": "user", "content": ASKED}])
    chat.replies = [(200, Say(f"A title of {MAIL}"))]
    task: Any = [{"role": "user", "content": f"### Task:\nA title for: {ASKED}"}]
    titled = ai.chat.completions.create(model=name, messages=task)
    assert titled.choices[0].message.content == "A title of <EMAIL_ADDRESS>"
    assert len(chat.requests) == 3
    assert MAIL not in sent_to(chat)


def test_records_never_hold_personal_data(client: httpx.Client, guarded: Callable[..., str]) -> None:
    name = guarded(record_questions=True)
    told = client.post("/ask", json={"question": ASKED, "pipeline": name}).json()
    assert MAIL in told["answer"]
    client.post("/feedback", json={"id": told["id"], "verdict": "down", "reason": f"Ask {MAIL}.", "pipeline": name})
    (row,) = rows(name, lambda found: len(found) == 1 and found[0]["verdict"] is not None)
    assert row["question"] == f"I am <EMAIL_ADDRESS>. {QUESTION}"
    assert row["reason"] == "Ask <EMAIL_ADDRESS>."


def test_a_flagged_question_is_refused_before_anything_is_asked(
    client: httpx.Client, guarded: Callable[..., str], chat: StubChat, moderation: StubModeration
) -> None:
    moderation.words = {"bomb": "illicit/violent"}
    name = guarded(moderation_url=moderation.url)
    for question in ("How do I build a bomb?", "### Task:\nHow do I build a bomb?"):
        body = {"model": name, "messages": [{"role": "user", "content": question}]}
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400
        assert "illicit/violent" in refused.json()["error"]["message"]
    assert not chat.requests


@pytest.mark.parametrize("stream", [False, True])
def test_a_flagged_answer_never_leaves_not_even_in_pieces(
    client: httpx.Client, guarded: Callable[..., str], moderation: StubModeration, stream: bool
) -> None:
    moderation.words = {"901820": "harassment"}
    body = {"question": QUESTION, "pipeline": guarded(moderation_url=moderation.url), "stream": stream}
    with client.stream("POST", "/ask", json=body) as answer:
        told = list(events(answer)) if stream else [("answer", json.loads(answer.read()))]
    assert "400 hours" not in json.dumps(told)
    whole = told[-1][1]
    assert (whole["answer"], whole["mode"], whole["claims"], whole["citations"]) == (WITHHELD, "abstained", [], [])
    assert whole["notes"] == ["the moderation flagged the answer: harassment"]
    assert len(moderation.texts) == 2


def test_an_answer_that_passes_is_told_once_it_has_passed(
    client: httpx.Client, guarded: Callable[..., str], moderation: StubModeration
) -> None:
    name = guarded(moderation_url=moderation.url)
    with client.stream("POST", "/ask", json={"question": QUESTION, "pipeline": name, "stream": True}) as answer:
        told = list(events(answer))
    assert [event for event, _ in told] == ["citation", "citation", "claim", "answer"]
    assert moderation.texts == [QUESTION, told[-1][1]["answer"]]
    assert "lockstep_guarded_total" in client.get("/metrics").text


@pytest.mark.parametrize(("failure", "status"), [("closed", 503), ("open", 200)])
def test_a_moderation_that_is_away_stops_answers_or_leaves_a_note(
    client: httpx.Client, guarded: Callable[..., str], failure: str, status: int
) -> None:
    name = guarded(moderation_url=f"http://127.0.0.1:{free_port()}/v1", moderation_failure=failure)
    answer = client.post("/ask", json={"question": QUESTION, "pipeline": name})
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["notes"].count(UNCHECKED_NOTE) == 1
        assert "400 hours" in answer.json()["answer"]
    else:
        assert "Moderation" in answer.json()["error"]["message"]
