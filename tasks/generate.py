"""Ask the chat model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.errors import PartError, TransientError
from tasks.prompt import Prompt, build
from tasks.retries import ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openai import OpenAI

    from blocks.chat_model import ChatModel
    from blocks.settings import Settings
    from tasks.models import Hit

TOO_LONG = ("context length", "context_length", "too long", "maximum context", "max_model_len", "longer than")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, what it was shown, and the tokens it counted."""

    text: str
    prompt: Prompt
    tokens: dict[str, int]


class TooLongError(PartError):
    """The prompt does not fit into the model's context."""


@contextmanager
def translated(block: ChatModel) -> Iterator[None]:
    """Raise our errors instead of the openai client's."""
    import openai

    where = f"Chat model: {block.base_url}"
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise PartError(f"{where} refused the key ({error.status_code}). Check VLLM_API_KEY.") from error
    except openai.NotFoundError as error:
        raise PartError(
            f"{where} has no model '{block.model}', or that is not the address up to and with /v1. "
            "Check LLM_MODEL and VLLM_BASE_URL."
        ) from error
    except openai.BadRequestError as error:
        kind = TooLongError if any(words in str(error).lower() for words in TOO_LONG) else PartError
        raise kind(f"{where} refused the request: {error}") from error
    except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
        raise TransientError(
            f"{where} does not answer ({type(error).__name__}: {error}). Is vLLM up, and is VLLM_BASE_URL right?"
        ) from error
    except (openai.OpenAIError, ValueError) as error:
        raise PartError(f"{where} did not answer like an OpenAI-compatible server: {error}") from error


def ask_model(block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings) -> Reply:
    """Return the model's reply to the question and the passages that fit.

    When the server says the prompt is too long, the lowest-ranked half of the passages is left out and
    it is asked again. Raises ``PartError`` or ``TransientError`` naming the setting to look at.
    """
    with translated(block):
        client = block.get_client()
        model = block.model or client.models.list().data[0].id
    while True:
        prompt = build(question, hits, settings.context_tokens)
        try:
            return _complete(client, block, model, prompt, settings)
        except TooLongError:
            if len(prompt.passages) <= 1:
                raise
            hits = prompt.passages[: len(prompt.passages) // 2]


def _complete(client: OpenAI, block: ChatModel, model: str, prompt: Prompt, settings: Settings) -> Reply:
    messages: Any = list(prompt.messages)
    with translated(block):
        answer = client.chat.completions.create(
            model=model,
            messages=messages,
            temperature=settings.temperature,
            max_tokens=settings.max_answer_tokens,
        )
        if not getattr(answer, "choices", None):
            raise ValueError("no choices in the answer")
        text = answer.choices[0].message.content or ""
    if not text.strip():
        raise PartError(
            f"Chat model: {block.base_url} returned an empty answer (it stopped because of "
            f"'{answer.choices[0].finish_reason}'). Raise LOCKSTEP_MAX_ANSWER_TOKENS, or use another model."
        )
    usage = answer.usage
    tokens = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens} if usage else {}
    return Reply(text.strip(), prompt, tokens)


@task(name="generate", **ONCE)
def generate(block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings) -> Reply:
    """Ask the chat model; its client retries connection errors, 429 and 5xx."""
    return ask_model(block, question, hits, settings)
