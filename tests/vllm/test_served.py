"""What the server itself does, as far as we rest on it: structured output, streams, usage, errors."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.vllm.conftest import API_KEY, SERVED, VllmServer
from tests.vllm.tiny_model import CONTEXT

CLAIMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "maxLength": 120},
                    "passages": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 3,
                        "items": {"type": "integer", "enum": [1, 2, 3]},
                    },
                },
                "required": ["text", "passages"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["claims"],
    "additionalProperties": False,
}
ASKED: dict[str, Any] = {
    "model": SERVED,
    "messages": [{"role": "user", "content": "What is a generation?"}],
    "temperature": 1.0,
}
STRUCTURED: dict[str, Any] = {
    **ASKED,
    "max_tokens": 512,
    "response_format": {"type": "json_schema", "json_schema": {"name": "claims", "schema": CLAIMS, "strict": True}},
}


def assert_claims(text: str) -> None:
    claims = json.loads(text)["claims"]
    assert 1 <= len(claims) <= 2
    for claim in claims:
        assert set(claim) == {"text", "passages"}
        # A character that breaks off counts as one, and is read as up to three.
        assert len(claim["text"]) - claim["text"].count("\ufffd") <= 120
        assert 1 <= len(claim["passages"]) <= 3
        assert set(claim["passages"]) <= {1, 2, 3}


def test_it_says_what_it_serves_to_those_with_the_key(vllm: VllmServer) -> None:
    assert [one.id for one in vllm.client().models.list().data] == [SERVED]
    with pytest.raises(openai.AuthenticationError):
        vllm.chat_model(api_key=None).get_client().models.list()


def test_noise_under_a_schema_is_what_the_schema_says(vllm: VllmServer) -> None:
    """Numbers outside of the enum are impossible, not unlikely: without the schema it cites up to [20]."""
    client, texts = vllm.client(), set()
    for seed in range(20):
        answer = client.chat.completions.create(**STRUCTURED, seed=seed)
        assert answer.choices[0].finish_reason == "stop", answer
        assert_claims(answer.choices[0].message.content or "")
        texts.add(answer.choices[0].message.content)
    assert len(texts) > 10


def test_a_stream_comes_in_pieces_and_ends_with_its_usage(vllm: VllmServer) -> None:
    stream = vllm.client().chat.completions.create(
        **STRUCTURED, seed=1, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    assert len([piece for piece in pieces if piece]) > 5
    assert_claims("".join(pieces))
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens > 5


def test_without_a_schema_it_cites_what_there_is_not(vllm: VllmServer) -> None:
    """So that answers of this model are worth checking."""
    client = vllm.client()
    answers = [client.chat.completions.create(**ASKED, max_tokens=96, seed=seed) for seed in range(5)]
    text = "".join(answer.choices[0].message.content or "" for answer in answers)
    assert any(f"[{n}]" in text for n in range(9, 21)), text
    assert any(f"[{n}]" in text for n in range(1, 9)), text


def test_it_counts_tokens_as_it_charges_them(vllm: VllmServer) -> None:
    counted = httpx.post(
        f"{vllm.url}/tokenize",
        json={"model": SERVED, "messages": ASKED["messages"]},
        headers={"Authorization": f"Bearer {API_KEY}"},
        timeout=30,
    ).json()
    answer = vllm.client().chat.completions.create(**ASKED, max_tokens=16)
    assert answer.usage
    assert (counted["count"], counted["max_model_len"]) == (answer.usage.prompt_tokens, CONTEXT)


def test_a_prompt_that_is_too_long_is_refused_with_its_length(vllm: VllmServer) -> None:
    long = {**ASKED, "messages": [{"role": "user", "content": "generation " * 5000}]}
    with pytest.raises(openai.BadRequestError, match=f"maximum context length is {CONTEXT}"):
        vllm.client().chat.completions.create(**long, max_tokens=16)
