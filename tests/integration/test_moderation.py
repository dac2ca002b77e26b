"""A moderation endpoint over HTTP: what it is sent, and what becomes of its failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.settings import Settings
from tasks.errors import LockstepError, MisuseError, PartError, TransientError
from tasks.guards.moderation import UNCHECKED_NOTE, UNNAMED, Verdict, moderated
from tasks.guards.questions import admit
from tests.support.chat_server import Say, StubChat
from tests.support.moderation_server import StubModeration
from tests.support.servers import free_port


@pytest.fixture
def endpoint() -> Iterator[StubModeration]:
    endpoint = StubModeration()
    yield endpoint
    endpoint.close()


@pytest.fixture
def chat() -> Iterator[StubChat]:
    chat = StubChat()
    yield chat
    chat.close()


def test_without_an_endpoint_everything_passes() -> None:
    assert moderated("anything", Settings(), None) == Verdict()


def test_a_text_is_judged_with_the_model_and_the_key(endpoint: StubModeration) -> None:
    endpoint.words = {"bomb": "illicit/violent"}
    settings = Settings(moderation_url=f"{endpoint.url}/", moderation_model="guard-1")
    chat = ChatModel(base_url=endpoint.url, api_key=SecretStr("a-key"))
    assert moderated("a pump", settings, chat) == Verdict()
    assert moderated("a bomb", settings, None) == Verdict(("illicit/violent",))
    first, second = endpoint.requests
    assert first == {
        "input": "a pump", "model": "guard-1", "path": "/v1/moderations", "authorization": "Bearer a-key",
    }  # fmt: skip
    assert second["authorization"] is None
    moderated("a pump", Settings(moderation_url=endpoint.url), None)
    assert "model" not in endpoint.requests[-1]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((500, {}), TransientError), ((429, {}), TransientError), ((401, {}), PartError), ((404, {}), PartError),
        ((200, b"<html>"), PartError), ((200, {"results": []}), PartError), ((200, [1]), PartError),
    ],
)  # fmt: skip
def test_a_failure_is_an_error_or_a_note(
    endpoint: StubModeration, reply: tuple[int, Any], kind: type[LockstepError]
) -> None:
    endpoint.reply = reply
    with pytest.raises(kind, match="Moderation: http"):
        moderated("a secret pump", Settings(moderation_url=endpoint.url), None)
    verdict = moderated("a secret pump", Settings(moderation_url=endpoint.url, moderation_failure="open"), None)
    assert verdict == Verdict(checked=False)
    assert verdict.notes == (UNCHECKED_NOTE,)


def test_an_endpoint_that_is_away_is_worth_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    away = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(TransientError, match="does not answer"):
        admit("What is a secret pump?", Settings(moderation_url=away), None)
    question, notes = admit("What is a secret pump?", Settings(moderation_url=away, moderation_failure="open"), None)
    assert (question, notes) == ("What is a secret pump?", (UNCHECKED_NOTE,))
    assert "does not answer" in caplog.text
    assert "secret" not in caplog.text


def test_what_is_flagged_is_refused_by_its_category_and_judged_without_personal_data(endpoint: StubModeration) -> None:
    endpoint.words = {"bomb": "violence"}
    settings = Settings(moderation_url=endpoint.url, personal_data="mask")
    with pytest.raises(MisuseError, match=r"refused the question: violence\."):
        admit("Send a bomb to eve@example.org", settings, None)
    assert endpoint.texts == ["Send a bomb to <EMAIL_ADDRESS>"]


@pytest.mark.parametrize(
    ("said", "categories"),
    [
        ("safe", ()), ("\n\nunsafe\nS9,S10", ("S9", "S10")), ("unsafe", (UNNAMED,)),
        ("Safety: Safe\nCategories: None", ()), ("Safety: Unsafe\nCategories: Violent, PII", ("Violent", "PII")),
        ("Safety: Controversial\nCategories: Political", ("Political",)),
    ],
)  # fmt: skip
def test_a_guard_model_of_a_chat_server_is_asked_as_any_other(
    chat: StubChat, said: str, categories: tuple[str, ...]
) -> None:
    chat.replies = [(200, Say(said))]
    settings = Settings(moderation_url=chat.url, moderation_api="chat", moderation_model="guard-1")
    assert moderated("a pump", settings, None) == Verdict(categories)
    (request,) = chat.requests
    assert request["messages"] == [{"role": "user", "content": "a pump"}]
    assert (request["model"], request["temperature"]) == ("guard-1", 0)


@pytest.mark.parametrize("reply", [(200, Say("I would rather not say.")), (200, {"choices": []}), (500, {})])
def test_a_guard_model_that_says_neither_fails_as_any_other(chat: StubChat, reply: tuple[int, Any]) -> None:
    chat.replies = [reply]
    settings = Settings(moderation_url=chat.url, moderation_api="chat", moderation_model="guard-1")
    with pytest.raises(PartError if reply[0] == 200 else TransientError, match="Moderation: http"):
        moderated("a secret pump", settings, None)
    open_ = settings.model_copy(update={"moderation_failure": "open"})
    assert moderated("a secret pump", open_, None) == Verdict(checked=False)
