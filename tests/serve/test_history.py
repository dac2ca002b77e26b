"""What is remembered of answers: a row each, the question only if a setting says so, and what people think of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import sqlalchemy as sa

from tasks.ledger.answers import unanswered
from tasks.ledger.database import Database
from tasks.ledger.tables import ANSWERS
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service
from tests.support.chat_server import Say, StubChat, claims

GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]), ("It sings.", [(1, "it sings")])
)


def rows(name: str, happens: Callable[[list[Any]], bool]) -> list[Any]:
    """Return the records of a pipeline once they are as they have to be: they are written a second later."""
    until = time.monotonic() + 15
    with Database(load_pipeline(name).ledger) as ledger:
        while True:
            with ledger.transaction() as connection:
                found = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.pipeline == name)).mappings().all()
            if happens(list(found)):
                return list(found)
            assert time.monotonic() < until, found
            time.sleep(0.2)


def test_an_answer_leaves_a_record_without_the_question(client: httpx.Client, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    told = client.post("/ask", json={"question": QUESTION, "pipeline": with_chat}).json()
    (row,) = rows(with_chat, lambda found: len(found) == 1)
    assert (row["id"], row["route"], row["mode"], row["question"]) == (told["id"], "/ask", "generated", None)
    assert (row["claims"], row["unverified"], row["tokens"]) == (2, 1, {"prompt": 11, "completion": 7})
    assert row["collection"] == told["collection"]
    assert {citation["chunk_id"] for citation in told["citations"]} <= set(row["chunk_ids"]) | {""}
    assert row["seconds"]["total"] > 0


def test_chats_and_streams_leave_one_each(service: Service, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    messages: Any = [{"role": "user", "content": QUESTION}]
    ai = service.openai()
    whole = ai.chat.completions.create(model=with_chat, messages=messages)
    list(ai.chat.completions.create(model=with_chat, messages=messages, stream=True))
    ai.chat.completions.create(model=with_chat, messages=[{"role": "user", "content": "### Task:\nTitle, please."}])
    found = rows(with_chat, lambda found: len(found) == 2)
    assert whole.id.removeprefix("chatcmpl-") in {row["id"] for row in found}


def test_text_is_kept_where_a_setting_says_so(client: httpx.Client, index: Index) -> None:
    name = index.make(name="kept-questions", record_questions=True)
    client.post("/ask", json={"question": QUESTION, "pipeline": name})
    (row,) = rows(name, lambda found: len(found) == 1)
    assert row["question"] == QUESTION


def test_a_thumb_down_makes_a_gap(client: httpx.Client, index: Index) -> None:
    name = index.make(name="judged-answers", record_questions=True)
    told = client.post("/ask", json={"question": QUESTION, "pipeline": name}).json()
    body = {"id": told["id"], "verdict": "down", "reason": "It is about another pump.", "pipeline": name}
    assert client.post("/feedback", json=body).json() == {"recorded": True}
    with Database(load_pipeline(name).ledger) as ledger:
        (gap,) = unanswered(ledger, name, 0)
    assert (gap["question"], gap["down"], gap["reason"]) == (QUESTION, 1, "It is about another pump.")
    assert client.post("/feedback", json={**body, "id": "f" * 32}).status_code == 404
    assert client.post("/feedback", json={**body, "verdict": "maybe"}).status_code == 400
    assert 'lockstep_feedback_total{verdict="down"}' in client.get("/metrics").text
