"""Fit a prompt into the chat model's context window, by the server's token count and by its refusals."""

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
"""A prompt is cut to this share of the room that the server named: passages differ in tokens a character."""


def fewer(hits: Sequence[Hit], shown: int, error: TooLongError) -> Sequence[Hit]:
    """Return the best-ranked passages to try next, at least one less than were ``shown``.

    As many as the room that the server named holds, else half. Raises the error when nothing can be left out.
    """
    if error.room is not None and error.room <= 0:
        raise PartError(
            f"{error} The answer alone may be as long as the model's context: lower LOCKSTEP_MAX_ANSWER_TOKENS."
        ) from error
    if shown <= 1:
        raise PartError(
            f"{error} One passage alone is too long: lower LOCKSTEP_MAX_ANSWER_TOKENS, or start vLLM with a larger "
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

    The whole prompt is counted first: mostly all of it fits, and one call to the server is enough. What is left of it
    is counted whole again: passages may take more tokens in a prompt than one by one, and vLLM (0.32) does not refuse
    a prompt that leaves the answer too little room: it cuts the answer.
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
    """Return the prompt that fits the model's context, what the model said to it, and a note if it had to be cut."""
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
                # Cut by what the server named, it fitted, but left the answer too little: vLLM (0.32) then cuts that.
                hits, room = fewer(hits, shown, TooLongError("", room, taken)), None
                continue
            why = (
                "the prompt was too long for the model"
                if refused
                else "the passages were more than fit into the prompt"
            )
            note = f"{why}: it was shown {shown} of {most} passages"
            return prompt, spoken, (note,) if shown < most else ()


A_FENCE = "passage-0123456789ab"
Count = Callable[[str], int | None]
"""Returns how many tokens a text is, or None when nobody can say."""


def shown(hit: Hit) -> str:
    """Return the text that a passage adds to a prompt."""
    return fenced(1, hit, A_FENCE)


def fitting(hits: Sequence[Hit], tokens: int, count: Count = estimated) -> tuple[Hit, ...]:
    """Return the best-ranked hits that fit into so many tokens, at least one.

    The first that does not fit ends them: none is shown in place of a better one.
    """
    room = tokens
    for kept, hit in enumerate(hits):
        text = shown(hit)
        size = count(text)
        room -= estimated(text) if size is None else size
        if kept and room < 0:
            return tuple(hits[:kept])
    return tuple(hits)
