"""Make a prompt fit the chat model's context, by the server's token counts and refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.answers.fence import fenced
from tasks.answers.passages import estimated
from tasks.answers.prompt import Prompt
from tasks.chat.client import Chat, Heard
from tasks.chat.errors import TooLongError
from tasks.chat.response import ChatResponse
from tasks.errors import PartError

if TYPE_CHECKING:
    from tasks.models import Hit


OF_TEMPLATE = 64
"""Tokens that a chat template may add to a prompt."""
SPARE = 0.95
"""A prompt is cut to this share of the room that the server named, since passages differ in tokens per character."""


def fewer(hits: Sequence[Hit], shown: int, error: TooLongError) -> Sequence[Hit]:
    """Return the best-ranked passages to try next, at least one less than were ``shown``.

    As many as fit into the room that the server named, else half. Raises ``PartError`` when nothing can be left out.
    """
    if error.room is not None and error.room <= 0:
        raise PartError(
            f"{error} The answer alone may fill the model's context. Lower LOCKSTEP_MAX_ANSWER_TOKENS."
        ) from error
    if shown <= 1:
        raise PartError(
            f"{error} One passage alone is too long. Lower LOCKSTEP_MAX_ANSWER_TOKENS, or start vLLM with a larger "
            "--max-model-len."
        ) from error
    if not error.room or not error.prompt or error.room >= error.prompt:
        return hits[: shown // 2]
    room = SPARE * error.room / error.prompt * sum(len(hit.text) for hit in hits[:shown])
    kept = 0
    while kept < shown and (room := room - len(hits[kept].text)) >= 0:
        kept += 1
    return hits[: max(1, min(kept, shown - 1))]


def within(chat: Chat, hits: Sequence[Hit], make: Callable[[Sequence[Hit]], Prompt]) -> Sequence[Hit]:
    """Return the best-ranked passages that fit into ``context_tokens``, and into the model's context if it is known.

    The whole prompt is counted first, since mostly all of it fits, and then one call to the server is enough. A
    shortened prompt is counted as a whole again: passages may take more tokens in a prompt than one by one. vLLM
    (0.32) does not refuse a prompt that leaves too little room for the answer. It cuts off the answer.
    """

    def size(prompt: Prompt) -> int | None:
        return chat.count("\n".join(message["content"] for message in prompt.messages))

    most = chat.settings.context_tokens
    whole = size(make(hits))
    if whole is None:
        return fitting(hits, most)
    left = chat.window - chat.settings.max_answer_tokens - OF_TEMPLATE if chat.window else most
    if whole <= min(most, left):
        return hits
    fit = fitting(hits, min(most, left - (size(make(())) or 0)), chat.count)
    while len(fit) > 1 and (size(make(fit)) or 0) > left:
        fit = fit[:-1]
    return fit


def fitted(
    chat: Chat,
    hits: Sequence[Hit],
    make: Callable[[Sequence[Hit]], Prompt],
    schema: Callable[[int], dict[str, Any]] | None,
    hearing: Callable[[Prompt], Heard] | None = None,
) -> tuple[Prompt, ChatResponse, tuple[str, ...]]:
    """Return the prompt that fits the model's context, the model's response, and a note if passages were left out."""
    most, refused, room = len(hits), False, None
    hits = within(chat, hits, make)
    while True:
        prompt = make(hits)
        shown = len(prompt.passages)
        try:
            spoken = chat.say(prompt.messages, schema(shown) if schema else None, hearing(prompt) if hearing else None)
        except TooLongError as error:
            hits, refused, room = fewer(hits, shown, error), True, error.room
        else:
            taken = spoken.tokens.get("prompt", 0)
            if spoken.cut and room and taken > room and shown > 1 and hearing is None:
                # The prompt was cut to the room that the server named, and fitted. It left too little room for the
                # answer, which vLLM (0.32) then cut off.
                hits, room = fewer(hits, shown, TooLongError("", room, taken)), None
                continue
            why = "the prompt was too long for the model" if refused else "not all passages fit into the prompt"
            note = f"{why}: the model was shown {shown} of {most} passages"
            return prompt, spoken, (note,) if shown < most else ()


A_FENCE = "passage-0123456789ab"
Count = Callable[[str], int | None]
"""Returns the number of tokens in a text, or None if it is unknown."""


def shown(hit: Hit) -> str:
    """Return a passage as it stands in a prompt."""
    return fenced(1, hit, A_FENCE)


def fitting(hits: Sequence[Hit], tokens: int, count: Count = estimated) -> tuple[Hit, ...]:
    """Return the best-ranked hits that fit into ``tokens``, at least one.

    The list ends at the first hit that does not fit. No worse hit takes its place.
    """
    room = tokens
    for kept, hit in enumerate(hits):
        text = shown(hit)
        size = count(text)
        room -= estimated(text) if size is None else size
        if kept and room < 0:
            return tuple(hits[:kept])
    return tuple(hits)
