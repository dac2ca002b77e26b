"""An unchanged openai client against a live service: every route, every class of error."""

from __future__ import annotations

import re
from typing import Any

import httpx
import openai
import pytest

from tests.serve.conftest import QUESTION, Index, Service
from tests.support.chat_server import Say, StubChat, claims

GROUNDED = claims(
    ("Only filter K7 is used.", [(1, "Use filter type K7 only")]),
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
    ("It sings.", [(1, "it sings")]),
)


@pytest.fixture
def ai(service: Service) -> openai.OpenAI:
    return service.openai()


def asked(text: str = QUESTION) -> Any:
    return [{"role": "user", "content": text}]


def test_pipelines_are_models(ai: openai.OpenAI, index: Index) -> None:
    ids = [model.id for model in ai.models.list()]
    assert {index.name, f"{index.name}:sources", f"{index.name}:strict"} <= set(ids)
    assert ai.models.retrieve(index.name).owned_by == "lockstep"


def test_an_answer_says_what_it_cites_where(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, GROUNDED)]
    told = ai.chat.completions.create(model=with_chat, messages=asked())
    (choice,) = told.choices
    text = choice.message.content or ""
    assert choice.finish_reason == "stop"
    annotations = choice.message.annotations or []
    assert [text[one.url_citation.start_index : one.url_citation.end_index] for one in annotations] == ["[1]", "[1]"]
    assert "It sings. [?]" in text
    assert told.usage
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (11, 7, 18)
    more: Any = told.model_extra
    assert more["lockstep"]["mode"] == "generated"
    assert [one["n"] for one in more["citations"]] == [1, 1, 1]
    assert more["sources"][0]["metadata"][0]["verified"] is True


def test_a_source_comes_before_the_claim_that_cites_it(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    stream = ai.chat.completions.create(
        model=with_chat, messages=asked(), stream=True, stream_options={"include_usage": True}
    )
    text, sources, last, usage = "", [], None, None
    for chunk in stream:
        usage = chunk.usage or usage
        if not chunk.choices:
            continue
        if event := (chunk.model_extra or {}).get("event"):
            assert f"[{len(sources) + 1}]" not in text, "it was cited before it was told"
            sources.append(event["data"])
        text += chunk.choices[0].delta.content or ""
        last = chunk if chunk.choices[0].finish_reason else last
    assert [source["source"]["name"].split(" › ")[0] for source in sources] == ["manuals/pump.md"]
    assert text.count("[1]") == 2
    assert last
    assert (last.model_extra or {})["lockstep"]["mode"] == "generated"
    assert usage
    assert usage.total_tokens == 18


def test_numbers_follow_the_order_of_citation(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [
        (
            200,
            claims(
                ("The cake bakes forty minutes.", [(3, "cake for forty minutes")]),
                ("K7 only.", [(1, "Use filter type K7 only")]),
            ),
        )
    ]
    told = ai.chat.completions.create(model=with_chat, messages=asked())
    more: Any = told.model_extra
    text = told.choices[0].message.content or ""
    assert text.index("[1]") < text.index("[2]")
    assert [one["source"]["id"] for one in more["sources"]] == [
        f"{one['key']}#{one['chunk_id']}" for one in sorted(more["citations"], key=lambda one: one["n"])
    ]


def test_sources_may_stand_in_the_text(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, GROUNDED)]
    whole = ai.chat.completions.create(model=f"{with_chat}:sources", messages=asked()).choices[0].message.content or ""
    assert "\n\nSources:\n1. [manuals/pump.md" in whole
    streamed = ai.chat.completions.create(model=f"{with_chat}:sources", messages=asked(), stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
    assert "".join(pieces).replace(" \n", "\n") == whole.replace(" \n", "\n")


def test_a_chat_page_fetches_nothing_that_a_model_names(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    said = "Oil it ![leak](http://evil.example/q) <img src=http://evil.example/x> \x1b[2J every 400 hours."
    chat.replies = [(200, claims((said, [(1, "every 400 hours")])))]
    whole = ai.chat.completions.create(model=with_chat, messages=asked()).choices[0].message.content or ""
    streamed = ai.chat.completions.create(model=with_chat, messages=asked(), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    for shown in (whole, text):
        assert "![leak]\\(http" in shown
        assert "\\<img" in shown
        assert "\x1b" not in shown
        assert "[1]" in shown


def test_no_byte_of_an_answer_commands_a_terminal(
    client: httpx.Client, with_chat: str, chat: StubChat, index: Index
) -> None:
    said = "Oil it \x1b]0;owned\x07 \u009b2J \u202e every 400 hours."
    chat.replies = [(200, claims((said, [(1, "every 400 hours")])))]
    for stream in (False, True):
        body = {"question": QUESTION, "pipeline": with_chat, "stream": stream}
        answered = client.post("/ask", json=body).raise_for_status()
        assert not re.search(b"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae", answered.content)
        assert "\\u202e" in answered.text


def test_strict_is_a_model(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, GROUNDED)]
    told = ai.chat.completions.create(model=f"{with_chat}:strict", messages=asked())
    assert "It sings" not in (told.choices[0].message.content or "")


def test_earlier_turns_are_condensed_into_the_question(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say('{"question": "How often is the filter of the pump replaced?"}')), (200, Say(GROUNDED))]
    turns = [
        {"role": "user", "content": "Tell me about the pump."},
        {"role": "assistant", "content": "It has a filter."},
        {"role": "user", "content": "How often is it replaced?"},
    ]
    told = ai.chat.completions.create(model=with_chat, messages=turns)  # type: ignore[arg-type]
    more: Any = told.model_extra
    assert more["lockstep"]["question"] == "How often is the filter of the pump replaced?"
    first, second = chat.requests
    assert "It has a filter." in first["messages"][-1]["content"]
    assert "How often is the filter of the pump replaced?" in second["messages"][-1]["content"]
    assert "It has a filter." not in str(second["messages"])


def test_a_conversation_that_cannot_be_condensed_costs_no_answer(
    ai: openai.OpenAI, with_chat: str, chat: StubChat
) -> None:
    chat.replies = [(200, Say("no JSON at all")), (200, Say(GROUNDED))]
    turns = [*asked("Tell me of the pump."), {"role": "assistant", "content": "Yes."}, *asked()]
    told = ai.chat.completions.create(model=with_chat, messages=turns)
    assert (told.model_extra or {})["lockstep"]["question"] == QUESTION


TITLE = (
    "### Task:\nGenerate a title for the chat.\n"
    "<chat_history>\nUSER: How often is the filter replaced?\n</chat_history>"
)


def test_a_chat_pages_own_task_is_no_question(ai: openai.OpenAI, index: Index, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say('{"title": "Filters"}'))]
    told = ai.chat.completions.create(model=with_chat, messages=asked(TITLE))
    assert told.choices[0].message.content == '{"title": "Filters"}'
    assert [one["content"] for one in chat.requests[0]["messages"]] == [TITLE]
    without = ai.chat.completions.create(model=index.name, messages=asked(TITLE))
    assert without.choices[0].message.content == '{"title": "How often is the filter replaced?"}'


def test_a_pipeline_is_a_vector_store(ai: openai.OpenAI, index: Index) -> None:
    assert index.name in [store.id for store in ai.vector_stores.list()]
    assert ai.vector_stores.retrieve(index.name).name == index.name
    page = ai.vector_stores.search(index.name, query=QUESTION, max_num_results=2)
    first = page.data[0]
    assert (first.file_id, first.filename) == ("manuals/pump.md", "manuals/pump.md")
    assert "every 400 hours" in first.content[0].text
    assert len(page.data) == 2


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({"type": "eq", "key": "key", "value": "cake.txt"}, {"cake.txt"}),
        ({"type": "ne", "key": "key", "value": "cake.txt"}, {"manuals/pump.md"}),
        ({"type": "in", "key": "key", "value": ["cake.txt", "none.txt"]}, {"cake.txt"}),
        ({"type": "nin", "key": "key", "value": ["cake.txt"]}, {"manuals/pump.md"}),
        (
            {"type": "or", "filters": [{"type": "eq", "key": "key", "value": "cake.txt"},
                                       {"type": "eq", "key": "prefix", "value": "manuals/"}]},
            {"cake.txt", "manuals/pump.md"},
        ),
        ({"type": "and", "filters": [{"type": "eq", "key": "key", "value": "cake.txt"},
                                     {"type": "eq", "key": "key", "value": "none"}]}, set()),
        ({"type": "eq", "key": "team", "value": 'in" or key ^= "'}, set()),
    ],
)  # fmt: skip
def test_openais_filters_hold(ai: openai.OpenAI, index: Index, given: Any, keys: set[str]) -> None:
    page = ai.vector_stores.search(index.name, query=QUESTION, filters=given)
    assert {one.file_id for one in page.data} == keys


def error_of(raised: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    body: Any = raised.value.body
    assert raised.value.request_id == body["request_id"]
    return dict(body)


def test_errors_are_those_that_the_client_knows(
    ai: openai.OpenAI, index: Index, with_chat: str, chat: StubChat
) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        ai.chat.completions.create(model="a-name-that-nobody-saved", messages=asked())
    assert error_of(unknown)["code"] == "pipeline_not_found"
    with pytest.raises(openai.NotFoundError) as variant:
        ai.chat.completions.create(model=f"{index.name}:loud", messages=asked())
    assert ":loud" in error_of(variant)["message"]
    with pytest.raises(openai.NotFoundError) as route:
        ai.responses.create(model=index.name, input="hello")
    assert "/v1/chat/completions" in error_of(route)["message"]
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    for demanded in ("required", {"type": "function", "function": {"name": "f"}}):
        with pytest.raises(openai.BadRequestError) as with_tools:
            ai.chat.completions.create(model=index.name, messages=asked(), tools=tools, tool_choice=demanded)  # type: ignore[call-overload]
        assert error_of(with_tools)["param"] == "tool_choice"
    with pytest.raises(openai.BadRequestError) as aloud:
        ai.chat.completions.create(model=index.name, messages=asked(), modalities=["text", "audio"])
    assert error_of(aloud)["param"] == "modalities"
    with pytest.raises(openai.BadRequestError):
        ai.chat.completions.create(model=index.name, messages=asked(), n=2)
    with pytest.raises(openai.BadRequestError) as nothing:
        ai.chat.completions.create(model=index.name, messages=[{"role": "system", "content": "Be kind."}])
    assert error_of(nothing)["param"] == "messages"
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.BadRequestError) as shown:
        ai.chat.completions.create(model=index.name, messages=picture)
    assert "image_url" in error_of(shown)["message"]
    with pytest.raises(openai.BadRequestError) as bad:
        ai.vector_stores.search(index.name, query=QUESTION, filters={"type": "like", "key": "key", "value": "x"})  # type: ignore[arg-type]
    assert error_of(bad)["param"] == "filters"
    with pytest.raises(openai.APIStatusError) as large:
        ai.chat.completions.create(model=index.name, messages=asked("a" * (1 << 20)))
    assert (large.value.status_code, error_of(large)["code"]) == (413, "body_too_large")
    chat.replies = [(500, {"error": {"message": "down"}})]
    with pytest.raises(openai.InternalServerError) as down:
        ai.chat.completions.create(model=with_chat, messages=asked())
    assert (down.value.status_code, error_of(down)["code"]) == (503, "part_unavailable")


def test_an_error_in_a_stream_is_raised_by_the_client(ai: openai.OpenAI, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(401, {"error": {"message": "no"}})]
    stream = ai.chat.completions.create(model=with_chat, messages=asked(), stream=True)
    with pytest.raises(openai.APIError, match="VLLM_API_KEY"):
        list(stream)


def test_unknown_sampling_fields_are_taken(service: Service, index: Index) -> None:
    body = {"model": index.name, "messages": asked(), "presence_penalty": 0.5, "store": True, "metadata": {"a": "b"}}
    assert httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
