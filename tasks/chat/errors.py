"""The errors of a chat server, translated to ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.chat.response import short
from tasks.errors import PartError, TransientError

if TYPE_CHECKING:
    from blocks.chat_model import ChatModel

    Messages = Sequence[Mapping[str, str]]


TOO_LONG = ("context length", "context_length", "too long", "maximum context", "max_model_len", "longer than")
NO_SCHEMA = ("response_format", "json_schema", "json schema", "guided", "structured", "grammar", "schema")
CONNECT_SECONDS = 10.0
_LIMIT = re.compile(r"(?:maximum context length|max_model_len|context length|context window)\D{0,20}?(\d{2,9})")
_NEEDED = re.compile(r"(\d{1,9}) (?:input tokens|prompt tokens|tokens? (?:from|in) the (?:input|messages|prompt))")


class TooLongError(PartError):
    """The prompt does not fit into the model's context.

    If the server said so, the prompt has ``prompt`` tokens and there is room for ``room``.
    """

    def __init__(self, message: str, room: int | None = None, prompt: int | None = None) -> None:
        super().__init__(message)
        self.room, self.prompt = room, prompt


class NoSchemaError(PartError):
    """The server does not support JSON schemas."""


class OtherJSONError(NoSchemaError):
    """The server wrote JSON, but this time not by the schema."""


class SlowError(TransientError):
    """The model took too long. A retry would take as long again."""


class BrokenOffError(TransientError):
    """The answer broke off. A part of it may have been shown already."""


def too_long(message: str, words: str, answer_tokens: int) -> TooLongError:
    """Return the error, with the numbers of tokens if the server's message has them."""
    limit, needed = _LIMIT.search(words.lower()), _NEEDED.search(words.lower())
    room = int(limit[1]) - answer_tokens if limit else None
    return TooLongError(message, room, int(needed[1]) if needed else None)


@contextmanager
def chat_errors(block: ChatModel, answer_tokens: int = 0, schema: bool = False) -> Iterator[None]:
    """Translate the openai client's errors to ours."""
    import openai

    where = f"Chat model: {block.base_url}"
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise PartError(f"{where} refused the key ({error.status_code}). Check VLLM_API_KEY.") from error
    except openai.NotFoundError as error:
        raise PartError(
            f"{where} has no model '{block.model}', or its address is not the one that ends in /v1. "
            "Check LLM_MODEL and VLLM_BASE_URL."
        ) from error
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        words = str(error).lower()
        message = f"{where} refused the request: {short(error)}"
        if any(one in words for one in TOO_LONG):
            raise too_long(message, words, answer_tokens) from error
        kind = NoSchemaError if schema and any(one in words for one in NO_SCHEMA) else PartError
        raise kind(message) from error
    except openai.APITimeoutError as error:
        if type(error.__cause__).__name__ == "ConnectTimeout":
            raise TransientError(
                f"{where} cannot be reached: no connection within {connect_seconds(block):g} s. Is vLLM up, and is "
                "VLLM_BASE_URL right?"
            ) from error
        raise _slow(block) from error
    except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
        raise TransientError(
            f"{where} does not answer ({type(error).__name__}: {short(error)}). Is vLLM up, and is VLLM_BASE_URL right?"
        ) from error
    except (openai.OpenAIError, ValueError) as error:
        raise PartError(f"{where} did not answer like an OpenAI-compatible server: {short(error)}") from error


def connect_seconds(block: ChatModel) -> float:
    """Return the time limit for a connection, in seconds."""
    return min(CONNECT_SECONDS, block.timeout_seconds)


def _slow(block: ChatModel) -> SlowError:
    return SlowError(
        f"Chat model: {block.base_url} did not answer within {block.timeout_seconds:g} s. Raise timeout_seconds of the "
        "Chat Model block, or lower LOCKSTEP_MAX_ANSWER_TOKENS."
    )
