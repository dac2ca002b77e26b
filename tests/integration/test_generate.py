"""The chat server as it may be: well, busy, slow, killed, another one than expected. Over HTTP, from a stub."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.settings import Settings
from tasks.answers.context_window import fewer
from tasks.answers.generate import CUT_NOTE, MARKED_NOTE, ask_model, with_schema, without_schema
from tasks.answers.prompt import build
from tasks.chat.client import LONGEST_TOKEN, Chat, without_tokenizer
from tasks.chat.errors import BrokenOffError, SlowError, TooLongError
from tasks.citations.drafts import Reply
from tasks.citations.verify import check
from tasks.errors import PartError, TransientError
from tasks.models import Hit
from tests.support.chat_server import Say, StubChat, claims

HITS = tuple(
    Hit(f"c{n}", f"{n}.md", 1 - n / 10, f"Passage {n} says {n * 11}." + "x" * 400, "", None) for n in range(1, 7)
)
GOOD = claims(("It is eleven.", [(1, "passage 1 says 11")]), ("It is 22.", [(2, "passage 2 SAYS 22")]))
REFUSED = (400, {"error": {"message": "response_format json_schema is not supported", "code": 400}})


@pytest.fixture
def chat() -> Iterator[StubChat]:
    chat = StubChat()
    yield chat
    chat.close()
    for known in (with_schema, without_schema, without_tokenizer):
        known.clear()


@pytest.fixture
def asked(chat: StubChat) -> Callable[..., Reply]:
    def ask(
        *replies: Any, tell: Any = None, timeout: float = 20.0, retries: int = 1, hits: Any = HITS, **settings: Any
    ) -> Reply:
        chat.replies = [reply if isinstance(reply, tuple) else (200, reply) for reply in replies]
        block = ChatModel(base_url=chat.url, api_key=SecretStr("key"), timeout_seconds=timeout, max_retries=retries)
        return ask_model(block, "What is it?", hits, Settings(**settings), tell)

    return ask


def text_of(reply: Reply) -> str:
    return check(reply.drafts, reply.passages).text


def test_the_settings_are_what_is_sent(asked: Callable[..., Reply], chat: StubChat) -> None:
    asked(GOOD, temperature=0.7, top_p=0.9, seed=5, max_answer_tokens=99, system_prompt="Be kind.")
    (request,) = chat.requests
    sent = {name: request[name] for name in ("model", "temperature", "top_p", "seed", "max_tokens")}
    assert sent == {"model": "served-model", "temperature": 0.7, "top_p": 0.9, "seed": 5, "max_tokens": 99}
    assert request["messages"][0]["content"].startswith("Be kind. ")
    assert request["response_format"]["type"] == "json_schema"
    asked(GOOD)
    assert "seed" not in chat.requests[-1]


def test_marked_answers_ask_for_no_schema(asked: Callable[..., Reply], chat: StubChat) -> None:
    reply = asked("It says eleven [1].", answers="marked")
    assert "response_format" not in chat.requests[0]
    assert (text_of(reply), reply.notes) == ("It says eleven [1].", ())


def test_a_server_that_refuses_schemas_is_asked_for_marks_then_and_later(
    asked: Callable[..., Reply], chat: StubChat
) -> None:
    reply = asked(REFUSED, "It says eleven [1].")
    assert (text_of(reply), reply.notes) == ("It says eleven [1].", (MARKED_NOTE,))
    assert "response_format" not in chat.requests[1]
    assert "square brackets" in chat.requests[1]["messages"][0]["content"]
    again = asked("It says eleven [1].")
    assert again.notes == (MARKED_NOTE,)
    assert len(chat.requests) == 3


def test_a_server_that_overlooks_schemas_is_asked_for_marks(asked: Callable[..., Reply], chat: StubChat) -> None:
    for said in ("It is eleven.", '{"answer": "eleven"}', "[1, 2"):
        without_schema.clear()
        chat.requests.clear()
        reply = asked(said, "It says eleven [1].")
        assert (text_of(reply), reply.notes) == ("It says eleven [1].", (MARKED_NOTE,)), said
        assert len(chat.requests) == 2


def test_plain_text_with_marks_is_taken_as_it_is(asked: Callable[..., Reply], chat: StubChat) -> None:
    reply = asked("It says eleven [1]. And more.")
    assert (text_of(reply), reply.notes) == ("It says eleven [1]. And more. [?]", (MARKED_NOTE,))
    assert len(chat.requests) == 1
    asked("It says eleven [1].")
    assert "response_format" not in chat.requests[1]


@pytest.mark.parametrize(
    "said",
    [claims(answerable=False), claims(("No.", [(1, "says")]), answerable=False), '{"answerable": true, "claims": []}',
     "The documents do not answer this."],
)  # fmt: skip
def test_the_model_may_say_that_it_does_not_know(asked: Callable[..., Reply], said: str) -> None:
    reply = asked(said)
    assert (reply.drafts, reply.whole) == ((), True)


def test_an_answer_cut_off_keeps_its_complete_claims_and_says_so(asked: Callable[..., Reply]) -> None:
    reply = asked(Say(GOOD[:-30], "length"))
    assert (text_of(reply), reply.notes, reply.whole) == ("It is eleven. [1]", (CUT_NOTE,), False)
    marked = asked(Say("It says eleven [1]. And then it", "length"), answers="marked")
    assert (text_of(marked), marked.notes, marked.whole) == ("It says eleven [1].", (CUT_NOTE,), False)


def test_an_answer_cut_off_before_its_first_claim_is_an_error(asked: Callable[..., Reply], chat: StubChat) -> None:
    with pytest.raises(PartError, match="LOCKSTEP_MAX_ANSWER_TOKENS"):
        asked(Say(GOOD[:40], "length"))
    assert len(chat.requests) == 1
    with pytest.raises(PartError, match=r"empty answer \(it reached its token limit"):
        asked(Say("  ", "length"))


def test_two_stages_write_first_and_cite_then(asked: Callable[..., Reply], chat: StubChat) -> None:
    second = '{"sentences": [{"sentence": 2, "citations": [{"passage": 2, "quote": "passage 2  Says  22"}]}]}'
    reply = asked("So [1]:\nIt is big. It is 22 [3].", second, stages=2)
    assert text_of(reply) == "So:\nIt is big. [?] It is 22. [2]"
    assert reply.tokens == {"prompt": 22, "completion": 14}
    first, then = chat.requests
    assert "response_format" not in first
    assert then["messages"][1]["content"].endswith("Sentences of the answer:\n1: It is big.\n2: It is 22.")
    schema = then["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["sentences"]["items"]["properties"]["sentence"]["enum"] == [1, 2]


def test_two_stages_without_schemas_assign_by_lines(asked: Callable[..., Reply], chat: StubChat) -> None:
    reply = asked("It is big. It is 22.", "1: none\n2: [2] [9]\n7: [1]", stages=2, answers="marked")
    assert text_of(reply) == "It is big. [?] It is 22. [2]"
    reply = asked("It is 22.", REFUSED, "It is 22.", "1: [2]", stages=2)
    assert (text_of(reply), reply.notes) == ("It is 22. [2]", (MARKED_NOTE,))


def test_two_stages_need_no_second_one_for_an_answer_that_states_nothing(
    asked: Callable[..., Reply], chat: StubChat
) -> None:
    told: list[str] = []
    assert text_of(asked("So:\n---", stages=2, tell=lambda draft, _prompt: told.append(draft.text))) == "So:\n---"
    assert told == ["So:", "---"], "what states nothing has no second stage, and is told all the same"
    assert len(chat.requests) == 1


def test_other_json_is_asked_for_marks_this_time_only(asked: Callable[..., Reply], chat: StubChat) -> None:
    assert asked('{"answer": "eleven"}', "It says eleven [1].").notes == (MARKED_NOTE,)
    assert asked(GOOD).notes == ()
    assert "response_format" in chat.requests[-1]


def test_two_stages_abstain_in_the_first(asked: Callable[..., Reply], chat: StubChat) -> None:
    assert asked("The documents do not answer this.", stages=2).drafts == ()
    assert len(chat.requests) == 1


def limit(room: int, prompt: int) -> tuple[int, Any]:
    words = f"This model's maximum context length is {room} tokens. However, you requested 1024 output tokens and"
    return 400, {"error": {"message": f"{words} your prompt contains at least {prompt} input tokens, for a total of …"}}


def test_a_prompt_that_is_too_long_is_cut_by_the_numbers_that_the_server_names(
    asked: Callable[..., Reply], chat: StubChat
) -> None:
    reply = asked(limit(2024, 1200), GOOD)
    assert len(reply.passages) == 4, "5/6 of it fit, with a little to spare"
    assert reply.passages == HITS[:4]
    assert "4 of 6 passages" in reply.notes[0]
    enum = chat.requests[1]["response_format"]["json_schema"]["schema"]["properties"]["claims"]["items"]
    assert enum["properties"]["citations"]["items"]["properties"]["passage"]["enum"] == [1, 2, 3, 4]


def test_without_numbers_half_of_it_is_left_out_until_one_is_left(asked: Callable[..., Reply], chat: StubChat) -> None:
    too_long = (400, {"error": {"message": "prompt is too long"}})
    assert len(asked(too_long, too_long, GOOD).passages) == 1
    with pytest.raises(PartError, match="--max-model-len"):
        asked(too_long)


def test_an_answer_longer_than_the_context_names_its_setting(asked: Callable[..., Reply], chat: StubChat) -> None:
    with pytest.raises(PartError, match="Lower LOCKSTEP_MAX_ANSWER_TOKENS"):
        asked(limit(512, 300))
    assert len(chat.requests) == 1


@pytest.mark.parametrize(("room", "prompt"), [(None, None), (100, None), (100, 90), (10, 10_000), (99, 100), (50, 100)])
def test_each_cut_leaves_out_at_least_one_and_keeps_one(room: int | None, prompt: int | None) -> None:
    for shown in range(2, 7):
        kept = fewer(HITS, shown, TooLongError("too long", room, prompt))
        assert 1 <= len(kept) < shown
        assert tuple(kept) == HITS[: len(kept)]


def test_a_busy_server_is_asked_again_as_often_as_the_block_says(asked: Callable[..., Reply], chat: StubChat) -> None:
    busy = (429, {"error": {"message": "busy"}})
    assert text_of(asked(busy, busy, GOOD, retries=2)).startswith("It is eleven.")
    assert len(chat.requests) == 3
    with pytest.raises(TransientError, match="VLLM_BASE_URL"):
        asked(busy, retries=1)
    assert len(chat.requests) == 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(asked: Callable[..., Reply], chat: StubChat, status: int) -> None:
    with pytest.raises(PartError):
        asked((status, {"error": {"message": "no"}}), retries=3)
    assert len(chat.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_server_is_given_up_after_its_time_and_not_asked_again(
    asked: Callable[..., Reply], chat: StubChat, stream: bool
) -> None:
    began = time.monotonic()
    with pytest.raises(SlowError, match=r"within 0\.5 s\. Raise timeout_seconds"):
        asked(Say(GOOD, after=2), timeout=0.5, retries=3, tell=(lambda *_: None) if stream else None)
    assert time.monotonic() - began < 2
    assert len(chat.requests) == 1


def test_a_server_that_trickles_is_given_up_as_well(asked: Callable[..., Reply]) -> None:
    began = time.monotonic()
    with pytest.raises(SlowError):
        asked(Say(GOOD * 10, between=0.2), timeout=0.6, tell=lambda *_: None)
    assert time.monotonic() - began < 3


def test_a_server_that_only_keeps_the_connection_open_is_given_up_as_well(asked: Callable[..., Reply]) -> None:
    began = time.monotonic()
    with pytest.raises(SlowError):
        asked(Say(GOOD, pings=40), timeout=0.6, tell=lambda *_: None)
    assert time.monotonic() - began < 3


def test_an_answer_that_trickles_in_is_given_up_though_each_byte_is_in_time(
    asked: Callable[..., Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = BaseHTTPRequestHandler.end_headers

    def trickling(handler: Any) -> None:
        """Send the head, then a byte now and then."""
        answer(handler)
        if handler.path.endswith("/chat/completions"):
            write = handler.wfile.write

            def slowly(data: bytes) -> None:
                for byte in data:
                    write(bytes([byte]))
                    time.sleep(0.05)

            handler.wfile.write = slowly

    monkeypatch.setattr(BaseHTTPRequestHandler, "end_headers", trickling)
    began = time.monotonic()
    with pytest.raises(SlowError):
        asked(GOOD, timeout=0.6)
    assert time.monotonic() - began < 3


NONSENSE: list[Any] = [
    {"choices": [{"index": 0}]},
    {"choices": ["x"]},
    {"choices": "x"},
    {"choices": [{"message": {"content": ["a", "list"]}, "finish_reason": "stop"}]},
    {"choices": [{"message": "x"}]},
    {"choices": None},
]


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_in_the_shape_of_an_answer_is_an_error_of_ours(asked: Callable[..., Reply], reply: Any) -> None:
    with pytest.raises(PartError, match="Chat model"):
        asked(reply)


def test_a_usage_that_is_none_is_left_out(asked: Callable[..., Reply]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": GOOD}, "finish_reason": "stop"}
    assert asked({"choices": [choice], "usage": "a lot"}).tokens == {}


@pytest.mark.parametrize("style", ["structured", "marked"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_model_thinks_is_not_what_it_says(asked: Callable[..., Reply], style: str, stream: bool) -> None:
    told: list[str] = []
    tell = (lambda draft, _: told.append(draft.text)) if stream else None
    said = {"structured": GOOD, "marked": "It says eleven [1]. It is 22 [2]."}[style]
    reply = asked(f"<think>It may be 7 [3]. Or {{8}}.</think>\n{said}", answers=style, tell=tell)
    assert [draft.text for draft in reply.drafts] == told or not stream
    assert "7" not in text_of(reply)
    assert len(reply.drafts) == 2
    reply = asked("<think>Nothing on that [1].</think>The documents do not answer this.", answers="marked", tell=tell)
    assert reply.drafts == ()
    with pytest.raises(PartError, match="empty answer"):
        asked(Say("<think>I think and think", "length"), answers="marked", tell=tell)


def test_halves_of_characters_are_not_passed_on(asked: Callable[..., Reply]) -> None:
    reply = asked("It says eleven \ud83d [1]. \ud83d\ude00 It is 22 [2].", answers="marked")
    assert text_of(reply).encode() == "It says eleven \ufffd [1]. 😀 It is 22 [2].".encode()


@pytest.mark.parametrize("said", [b"<html>index</html>", [1, 2], {"count": "many"}, {"count": 7, "max_model_len": "x"}])
def test_a_server_whose_tokenize_is_something_else_answers_all_the_same(
    asked: Callable[..., Reply], chat: StubChat, said: Any
) -> None:
    chat.tokenizes = said
    assert text_of(asked(GOOD)).startswith("It is eleven.")


def test_a_host_that_cannot_be_reached_is_not_called_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.chat.errors.CONNECT_SECONDS", 0.3)
    # Linux drops what comes to a listener whose queue is full, as a firewall does.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(full.getsockname())
        block = ChatModel(base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1", max_retries=0)
        with pytest.raises(TransientError, match=r"cannot be reached.*VLLM_BASE_URL") as caught:
            ask_model(block, "What is it?", HITS, Settings())
        for one in waiting:
            one.close()
    assert not isinstance(caught.value, SlowError)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reply", [b"<html>welcome to nginx</html>", {"hello": "world"}, [1]])
def test_a_server_that_is_another_one_is_named(asked: Callable[..., Reply], reply: Any, stream: bool) -> None:
    with pytest.raises(PartError, match="OpenAI-compatible"):
        asked(reply, tell=(lambda *_: None) if stream else None)


def test_a_page_of_html_in_an_error_is_shortened(asked: Callable[..., Reply]) -> None:
    with pytest.raises(TransientError) as caught:
        asked((502, b"<html>" + b"bad gateway\n" * 1000), retries=0)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_nobody_listening_there_is_said_at_once() -> None:
    block = ChatModel(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9.*VLLM_BASE_URL"):
        ask_model(block, "What is it?", HITS, Settings())


def test_claims_are_told_as_they_are_complete(asked: Callable[..., Reply]) -> None:
    told: list[tuple[str, float]] = []
    reply = asked(Say(GOOD, between=0.01), tell=lambda draft, _prompt: told.append((draft.text, time.monotonic())))
    assert [text for text, _ in told] == ["It is eleven.", "It is 22."]
    assert told[1][1] - told[0][1] > 0.05
    assert reply.tokens == {"prompt": 11, "completion": 7}


@pytest.mark.parametrize(
    "said", ["It says eleven [1].\n\nIt is 22 [2]. As 1.5 is", "The documents do not answer this. Sorry."]
)
def test_sentences_are_told_as_they_are_complete(asked: Callable[..., Reply], said: str) -> None:
    told: list[Any] = []
    reply = asked(said, tell=lambda draft, _prompt: told.append(draft), answers="marked")
    assert tuple(told) == reply.drafts


def test_a_model_that_refuses_in_the_end_has_told_nothing(asked: Callable[..., Reply]) -> None:
    told: list[Any] = []
    asked(claims(("No.", [(1, "says")]), answerable=False), tell=lambda *one: told.append(one))
    assert told == []


def test_a_server_killed_in_mid_stream_is_no_answer(asked: Callable[..., Reply], chat: StubChat) -> None:
    told: list[Any] = []
    with pytest.raises(BrokenOffError, match="not the whole answer"):
        asked(Say(GOOD[:-4], None), tell=lambda *one: told.append(one), retries=3)
    assert len(told) == 1
    assert len(chat.requests) == 1


def test_a_server_that_takes_no_notice_of_max_tokens_is_cut_off(asked: Callable[..., Reply]) -> None:
    endless, told = Say("It says nothing [1]. " * 900), list[str]()
    reply = asked(endless, answers="marked", max_answer_tokens=64, tell=lambda draft, _: told.append(draft.text))
    assert CUT_NOTE in reply.notes
    assert 0 < sum(map(len, told)) <= 64 * LONGEST_TOKEN + 10


def test_a_long_answer_is_read_no_oftener_than_it_grows(chat: StubChat) -> None:
    """Who listens reads all of it each time: read at every token, an answer of 4,000 tokens takes a minute of CPU."""
    chat.replies, heard = [(200, Say("It says nothing [1]. " * 1_000))], list[int]()
    with Chat(ChatModel(base_url=chat.url, api_key=SecretStr("key")), Settings()) as open_chat:
        open_chat.say(build("What?", HITS, "marked").messages, heard=lambda text: heard.append(len(text)))
    assert heard[:3] == [7, 14, 21]
    assert heard[-1] > 20_500
    assert sum(heard) < 100 * heard[-1]


def test_a_stream_that_neither_says_anything_nor_ends_is_left(asked: Callable[..., Reply]) -> None:
    with pytest.raises(BrokenOffError, match="does not end"):
        asked(Say(GOOD, hollow=64 * LONGEST_TOKEN), max_answer_tokens=64, tell=lambda *_: None)


def test_the_server_counts_the_tokens_of_the_passages(asked: Callable[..., Reply], chat: StubChat) -> None:
    """Six passages of some ten words each: by their bytes they are estimated at 160 tokens each."""
    chat.tokenizes = True
    assert len(asked(GOOD, context_tokens=512).passages) == 6
    assert len(chat.counted) == 1
    chat.counted.clear()
    many = tuple(Hit(f"c{n}", f"{n}.md", 0.5, "word " * 100, "", None) for n in range(6))
    reply = asked(GOOD, context_tokens=256, hits=many)
    assert reply.passages == many[:2]
    assert any("shown 2 of 6" in note for note in reply.notes)
    assert len(chat.counted) == 6  # all, none, one by one up to the third, and what is left as a whole


def test_a_prompt_is_cut_before_the_server_has_to_refuse_it(asked: Callable[..., Reply], chat: StubChat) -> None:
    chat.tokenizes, chat.window = True, 1100
    many = tuple(Hit(f"c{n}", f"{n}.md", 0.5, "word " * 100, "", None) for n in range(6))
    reply = asked(GOOD, max_answer_tokens=512, hits=many)
    (request,) = chat.requests
    words = sum(len(message["content"].split()) for message in request["messages"])
    assert 1 <= len(reply.passages) < 6
    assert words <= 1100 - 512 - 64
    assert words > 1100 - 512 - 64 - 104, "another passage would not have fit"


def test_a_server_that_counts_no_tokens_is_not_asked_again(asked: Callable[..., Reply], chat: StubChat) -> None:
    assert len(asked(GOOD, context_tokens=256).passages) == 1
    assert len(asked(GOOD, context_tokens=512).passages) == 3
    assert len(chat.counted) == 1


def test_the_best_passage_may_stand_last(asked: Callable[..., Reply], chat: StubChat) -> None:
    reply = asked(GOOD, passage_order="best_last", stages=1)
    assert reply.passages == HITS
    user = chat.requests[0]["messages"][1]["content"]
    assert user.index("Passage 6 says") < user.index("Passage 1 says")
    assert text_of(reply) == "It is eleven. [1] It is 22. [2]"


def test_a_server_that_wrote_json_once_is_asked_for_it_again(asked: Callable[..., Reply], chat: StubChat) -> None:
    asked(GOOD)
    reply = asked(REFUSED, "It says eleven [1].")
    assert MARKED_NOTE in reply.notes
    assert text_of(asked(GOOD)) == "It is eleven. [1] It is 22. [2]"
    assert ["response_format" in request for request in chat.requests] == [True, True, False, True]


def test_a_server_that_wrote_json_to_another_question_meanwhile_is_asked_for_it(
    asked: Callable[..., Reply], chat: StubChat
) -> None:
    """Of the first questions at once, one slips into plain text before another has its JSON."""
    asked("It says eleven [1].")
    assert without_schema
    with_schema.update(without_schema)  # the other question's answer is there now
    reply = asked(GOOD)
    assert "response_format" in chat.requests[-1]
    assert MARKED_NOTE not in reply.notes


@pytest.mark.parametrize(("status", "asked_again"), [(401, True), (404, False)])
def test_only_a_server_without_a_tokenizer_is_not_asked_for_it_again(
    asked: Callable[..., Reply], chat: StubChat, status: int, asked_again: bool
) -> None:
    """A key that is being changed says nothing of what the server can do."""
    chat.tokenizes = (status, {"error": {"message": "no"}})
    asked(GOOD)
    assert (not without_tokenizer) is asked_again
