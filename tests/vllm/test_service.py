"""The service over the real vLLM: what it streams, while vLLM writes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.serve.conftest import Service, serving
from tests.vllm.conftest import Library, VllmServer

QUESTION = "What is a generation?"


@pytest.fixture(scope="module")
def service(library: Library, vllm: VllmServer) -> Iterator[Service]:
    with serving(library.pipeline(vllm.chat_model(), answers="marked", max_answer_tokens=256)) as service:
        yield service


def test_claims_come_while_vllm_writes(service: Service) -> None:
    names, texts, told = list[str](), list[str](), dict[str, object]()
    with service.client() as client, client.stream("POST", "/ask", json={"question": QUESTION, "stream": True}) as come:
        for line in come.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                texts += [str(told["text"])] if names[-1] == "claim" else []
    assert names[-1] == "answer"
    assert set(names) <= {"claim", "citation", "answer"}
    assert told["mode"] in ("generated", "abstained")
    if told["mode"] == "generated":
        assert "".join(texts).strip() == told["answer"]


def test_the_openai_client_reads_what_vllm_writes(service: Service) -> None:
    ai = service.openai()
    model = next(iter(ai.models.list())).id
    stream = ai.chat.completions.create(
        model=service.app._app.state.pipelines.default, messages=[{"role": "user", "content": QUESTION}], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert model
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens > 0
    assert any(chunk.choices and chunk.choices[0].finish_reason == "stop" for chunk in chunks)
