"""Call the chat server, translate its errors, and retry where that may help."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from tasks import traces
from tasks.addresses import check_address
from tasks.chat.errors import BrokenOffError, SlowError, _slow, chat_errors, connect_seconds
from tasks.chat.response import ChatResponse, choice_of, content_of, first_model, said_aloud, short, tokens_of, whole
from tasks.errors import PartError, StoppedError, TransientError
from tasks.listeners import stop
from tasks.sanitize import keep_secrets

if TYPE_CHECKING:
    from openai import OpenAI

    from blocks.chat_model import ChatModel
    from blocks.settings import Settings

    Messages = Sequence[Mapping[str, str]]

GONE = "Chat model: whoever asked has gone, so the answer was not written to its end"
LONGEST_PAUSE = 20.0
TOKENIZE_SECONDS = 5.0
LONGEST_TOKEN = 256
"""More characters, and more events of a stream, than any token needs. Beyond that, a server's stream is cut off."""
_SECONDS = re.compile(r"\d{1,6}(?:\.\d+)?")
HEARD_OF = 64
"""A listener is called again when the text has grown by a 64th, and for each of the first 64 characters. Each time it
reads the whole text so far. So its cost for each character stays the same, however long the answer is."""

without_tokenizer: set[tuple[str, str]] = set()
"""Servers and models that cannot count the tokens of a text, as this process found out."""

Heard = Callable[[str], None]
"""A listener, called again and again with the text so far while it streams in."""


class Chat:
    """A client of one chat server with a pipeline's settings. A context manager, which closes the client."""

    def __init__(self, block: ChatModel, settings: Settings) -> None:
        import openai

        self.block, self.settings = block, settings
        keep_secrets(block)
        check_address(block.base_url, "Chat model", "VLLM_BASE_URL")
        with chat_errors(block):
            self.client: OpenAI = block.get_client().with_options(
                # The client's own retries do not tell a busy server from a slow one.
                max_retries=0,
                timeout=openai.Timeout(block.timeout_seconds, connect=connect_seconds(block)),
            )
        self.model = block.model or ""
        self.window = 0
        """The tokens of the model's context window, 0 until :meth:`count` has learned them from the server."""

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def say(self, messages: Messages, schema: dict[str, Any] | None = None, heard: Heard | None = None) -> ChatResponse:
        """Return the model's answer. With ``heard`` it is streamed to that listener.

        429, 5xx and refused connections are retried as often as the block says. Raises ``TransientError`` or
        ``PartError`` with the setting to check. Raises ``TooLongError`` if the prompt is too long, and
        ``NoSchemaError`` if the server does not support JSON schemas.
        """
        again = Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_attempt(1 + self.block.max_retries),
            wait=_pause,
            reraise=True,
        )
        spoken: ChatResponse = again(self._once, messages, schema, heard)
        if not spoken.text.strip():
            why = "it reached its token limit" if spoken.cut else "it stopped by itself"
            raise PartError(
                f"Chat model: {self.block.base_url} returned an empty answer ({why}). Raise "
                "LOCKSTEP_MAX_ANSWER_TOKENS, or use another model."
            )
        return spoken

    def count(self, text: str) -> int | None:
        """Return the number of tokens of a text for the model, or None if the server does not say (vLLM does)."""
        import openai

        server = (self.block.base_url, self.block.model or "")
        if server in without_tokenizer:
            return None
        root = self.block.base_url.rstrip("/").removesuffix("/v1")
        quick = self.client.with_options(base_url=root, timeout=min(TOKENIZE_SECONDS, self.block.timeout_seconds))
        try:
            said: Any = quick.post("/tokenize", cast_to=object, body={"prompt": text, **self._named()})
        except (
            openai.APIConnectionError,
            openai.AuthenticationError,
            openai.InternalServerError,
            openai.PermissionDeniedError,
            openai.RateLimitError,
        ):
            return None  # the server may answer next time
        except (openai.OpenAIError, ValueError):
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("count"), int):  # a web page, or another API
            without_tokenizer.add(server)
            return None
        window = said.get("max_model_len")
        self.window = self.window or (window if isinstance(window, int) else 0)
        return int(said["count"])

    def _named(self) -> dict[str, str]:
        return {"model": self.model} if self.model else {}

    def _once(self, messages: Messages, schema: dict[str, Any] | None, heard: Heard | None) -> ChatResponse:
        if stop.get():
            raise StoppedError(GONE)
        with chat_errors(self.block, self.settings.max_answer_tokens, schema is not None):
            self.model = self.model or first_model(self.client.models.list())
            options = self._options(messages, schema)
            with traces.chat(self.model, self.block.base_url, self.settings.max_answer_tokens):
                options["extra_headers"] = traces.outgoing()
                create = self.client.chat.completions.create
                said = self._stream(options, heard) if heard else whole(create(**options))
                traces.used(said.tokens)
            return said

    def _options(self, messages: Messages, schema: dict[str, Any] | None) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_answer_tokens,
        }
        if settings.seed is not None:
            options["seed"] = settings.seed
        if schema is not None:
            named = {"name": "answer", "schema": schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": named}
        return options

    def _stream(self, options: dict[str, Any], heard: Heard) -> ChatResponse:
        text, finish, tokens, told = "", None, dict[str, int](), 0
        longest = LONGEST_TOKEN * self.settings.max_answer_tokens
        options = {**options, "stream": True, "stream_options": {"include_usage": True}}
        began = time.monotonic()
        with self.client.chat.completions.create(**options) as stream, _ended_by_stop(stream):
            for event in islice(self._whole(stream), longest):
                tokens = tokens_of(event) or tokens
                choice = choice_of(event)
                finish = getattr(choice, "finish_reason", None) or finish
                if piece := content_of(getattr(choice, "delta", None)):
                    if not text:
                        traces.first_chunk(time.monotonic() - began)
                    text += piece
                if len(text) - told > len(text) // HEARD_OF:
                    told = len(text)
                    heard(said_aloud(text))
                if len(text) > longest:
                    finish = "length"
                    break
        if stop.get():
            raise StoppedError(GONE)
        if finish is None:
            raise self._broken("the stream ended early, or does not end")
        return ChatResponse(said_aloud(text).strip(), finish == "length", tokens)

    def _whole(self, stream: Any) -> Iterator[Any]:
        """Yield the events of a stream. Raises ``BrokenOffError`` if it breaks off, ``ValueError`` if it is empty."""
        import httpx2
        import openai

        events = 0
        try:
            for event in stream:
                events += 1
                yield event
        except (openai.APITimeoutError, httpx2.ReadTimeout) as error:
            raise _slow(self.block) from error
        except openai.APIError as error:
            if stop.get():
                raise StoppedError(GONE) from error
            raise self._broken(f"{type(error).__name__}: {short(error)}") from error
        if not events:
            raise ValueError("there are no events in its stream")

    def _broken(self, why: str) -> BrokenOffError:
        return BrokenOffError(
            f"Chat model: {self.block.base_url} broke off in the middle of its answer ({why}). The text so far "
            "is not the whole answer. Is vLLM up?"
        )


@contextmanager
def _ended_by_stop(stream: Any) -> Iterator[None]:
    """End the connection of a stream when nobody waits for it any more, so that the server stops writing.

    Closing it from another thread would not wake the one that reads; shutting its socket down does.
    """
    said = stop.get()
    if said is None:
        yield
        return
    network = stream.response.extensions.get("network_stream")
    connection = network.get_extra_info("socket") if network else None

    def end() -> None:
        if connection is not None:
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    with said.ending(end):
        yield


def _passes(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, SlowError | BrokenOffError)


def _pause(state: RetryCallState) -> float:
    """Return the seconds to wait: those that the server asks for, else exponential back-off."""
    error = state.outcome.exception() if state.outcome else None
    headers = getattr(getattr(error and error.__cause__, "response", None), "headers", {})
    asked = _SECONDS.fullmatch(headers.get("retry-after", "").strip())
    seconds = float(asked[0]) if asked else 0.5 * 2**state.attempt_number * random.uniform(0.75, 1.0)
    return min(seconds, LONGEST_PAUSE)
