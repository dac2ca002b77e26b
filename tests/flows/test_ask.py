"""Questions over a real index: extracted, abstained, written by a chat model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from flows.ask import ask
from flows.sync import sync
from flows.without_heartbeat import without_heartbeat
from tasks.answer import answer
from tasks.errors import MisuseError, PartError, TransientError
from tasks.pipelines import load_pipeline
from tests.conftest import Bucket, Server, new_bucket, pipeline_maker, sqlite_url

MANUAL = """# Pump manual

## Starting

To start the pump, open the inlet valve and press the green button for three seconds.

## Maintenance

The filter of the pump must be replaced every 400 hours of operation. Use filter type K7 only.
"""


class Chat:
    """A chat server that says what a test tells it to: a real model cannot be made to misbehave on demand."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, Any]] = []
        self.requests: list[dict[str, Any]] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": "served-model", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat.requests.append({**body, "authorization": self.headers.get("Authorization")})
                status, reply = chat.replies.pop(0) if len(chat.replies) > 1 else chat.replies[0]
                if isinstance(reply, str) and status == 200:
                    reply = {
                        "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                        "choices": [
                            {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
                        ],
                        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
                    }  # fmt: skip
                self.answer(status, reply)

            def answer(self, status: int, reply: Any) -> None:
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(reply, bytes) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def chat() -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.server.shutdown()
    chat.server.server_close()


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
def with_chat(manuals: tuple[Callable[..., str], Bucket], chat: Chat) -> Callable[..., str]:
    """Save a pipeline over the same index whose chat model is the test's."""

    def make(**options: Any) -> str:
        model = ChatModel(base_url=chat.url, api_key=SecretStr("key"), max_retries=1, **options)
        return manuals[0](chat_model=model, name="with-chat")

    return make


QUESTION = "How often must the pump's filter be replaced?"


def test_a_model_answers_with_checked_citations(with_chat: Callable[..., str], chat: Chat) -> None:
    name = with_chat()
    chat.replies = [(200, "Every 400 hours of operation [1]. It is also good for you [9].")]
    found = ask(QUESTION, name)
    assert found.mode == "generated"
    assert found.answer == "Every 400 hours of operation [1]. It is also good for you."
    assert [(one.n, one.key) for one in found.citations] == [(1, "manuals/pump.md")]
    assert found.citations[0].quote == "The filter of the pump must be replaced every 400 hours of operation."
    assert found.tokens == {"prompt": 11, "completion": 7}
    request = chat.requests[0]
    assert (request["model"], request["authorization"]) == ("served-model", "Bearer key")
    assert '<passage n="1">' in request["messages"][1]["content"]
    assert "filter type K7" in request["messages"][1]["content"]


def test_a_model_that_finds_no_answer_abstains(with_chat: Callable[..., str], chat: Chat) -> None:
    chat.replies = [(200, "The documents do not answer this.")]
    found = ask(QUESTION, with_chat())
    assert (found.mode, found.citations) == ("abstained", ())


def test_an_answer_without_citations_is_marked(with_chat: Callable[..., str], chat: Chat) -> None:
    chat.replies = [(200, "Every now and then.")]
    found = ask(QUESTION, with_chat())
    assert found.citations == ()
    assert "do not rely" in found.notes[0]


def test_a_prompt_that_is_too_long_is_cut(with_chat: Callable[..., str], chat: Chat) -> None:
    too_long = {"error": {"message": "This model's maximum context length is 128 tokens.", "code": 400}}
    chat.replies = [(400, too_long), (200, "Every 400 hours [1].")]
    found = ask(QUESTION, with_chat())
    assert found.citations[0].key == "manuals/pump.md"
    first, second = (request["messages"][1]["content"].count("<passage") for request in chat.requests)
    assert second < first


def test_a_busy_server_is_asked_again(with_chat: Callable[..., str], chat: Chat) -> None:
    chat.replies = [(503, {"error": {"message": "busy"}}), (200, "Every 400 hours [1].")]
    assert ask(QUESTION, with_chat()).mode == "generated"
    assert len(chat.requests) == 2


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
    with_chat: Callable[..., str], chat: Chat, status: int, reply: Any, kind: type, words: str
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


def test_an_empty_question_is_misuse(manual: str) -> None:
    with pytest.raises(MisuseError, match="empty"):
        ask("   ", manual)
