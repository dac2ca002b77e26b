"""Let the chat model write an answer: as JSON with quotes or with [n] marks, in one stage or in two."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.answers.context_window import fitted
from tasks.answers.prompt import Prompt, Style, abstains, build, build_assignment
from tasks.chat.client import Chat, Heard
from tasks.chat.errors import NoSchemaError, OtherJSONError
from tasks.chat.response import ChatResponse
from tasks.citations.drafts import Cited, Draft, Reply
from tasks.citations.json_answer import (
    Assigned,
    Assignments,
    Claimed,
    Structured,
    answer_schema,
    assignment_schema,
    bare,
    cited,
    complete,
    drafts,
    parse,
    refuses,
)  # fmt: skip
from tasks.citations.markers import cited_numbers, pieces, states, without_marks
from tasks.citations.verify import check
from tasks.errors import PartError
from tasks.models import Checked, Hit
from tasks.task_runs import ONCE

if TYPE_CHECKING:
    from blocks.chat_model import ChatModel
    from blocks.settings import Settings


MARKED_NOTE = "the chat server ignores JSON schemas: the model cited with [n] marks, and Lockstep found the quotes"
CUT_NOTE = "the answer reached LOCKSTEP_MAX_ANSWER_TOKENS and was cut off: only its complete part is shown"
_LINE = re.compile(r"^[^\w\n]*+(\d{1,3})\s*+[:.)]((?:\s*+\[[\d\s,]++\])+)", re.MULTILINE)

Tell = Callable[[Draft, Prompt], None]
"""Called with each piece of the answer as soon as the piece is complete."""

with_schema: set[tuple[str, str]] = set()
without_schema: set[tuple[str, str]] = set()
"""Servers with their models that returned JSON for a schema in this process, and those that never did."""


class Telling:
    """Pass on the pieces of an answer while it is streamed, each piece once."""

    def __init__(self, tell: Tell, style: Style) -> None:
        self._tell, self._style, self._told = tell, style, 0

    def hearing(self, prompt: Prompt) -> Heard:
        """Return a callback that takes the text so far."""
        return lambda text: self.up_to(so_far(text, self._style), prompt)

    def up_to(self, found: Sequence[Draft], prompt: Prompt) -> None:
        """Pass on the pieces that were not passed on yet."""
        for draft in found[self._told :]:
            self._tell(draft, prompt)
        self._told = max(self._told, len(found))


def ask_model(
    block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings, tell: Tell | None = None
) -> Reply:
    """Return the model's reply to the question and the passages that fit.

    If the server refuses the prompt as too long, the call is repeated without the lowest-ranked passages. A server
    without JSON schemas is asked for [n] marks instead, and for [n] marks at once from then on. Raises ``PartError``
    or ``TransientError`` that names the setting to check.
    """
    write = _in_two_stages if settings.stages == 2 else _in_one_stage
    wanted = settings.answers == "structured"
    with Chat(block, settings) as chat:
        if wanted and may_give_json(chat):
            try:
                return write(chat, question, hits, "structured", tell)
            except OtherJSONError:
                pass
            except NoSchemaError:
                write_off(chat)
        reply = write(chat, question, hits, "marked", tell)
    return replace(reply, notes=(*reply.notes, MARKED_NOTE)) if wanted else reply


def server_of(chat: Chat) -> tuple[str, str]:
    """Return the address and the model under which a server's abilities are remembered."""
    return (chat.block.base_url, chat.block.model or "")


def may_give_json(chat: Chat) -> bool:
    """Return whether to ask a server for JSON: unless it was written off and has returned no JSON in this process."""
    return server_of(chat) not in without_schema or server_of(chat) in with_schema


def write_off(chat: Chat) -> None:
    """Stop asking a server for JSON, unless it has returned JSON before: then only this answer is at fault."""
    if server_of(chat) not in with_schema:
        without_schema.add(server_of(chat))


def _in_one_stage(chat: Chat, question: str, hits: Sequence[Hit], style: Style, tell: Tell | None) -> Reply:
    settings = chat.settings

    def make(some: Sequence[Hit]) -> Prompt:
        return build(question, some, style, settings.system_prompt, settings.passage_order)

    telling = Telling(tell, style) if tell else None
    schema = answer_schema if style == "structured" else None
    prompt, spoken, notes = fitted(chat, hits, make, schema, telling.hearing if telling else None)
    found = structured(spoken) if style == "structured" else marked(spoken)
    if style == "structured" and found and not in_json(spoken.text):
        write_off(chat)
        notes = (*notes, MARKED_NOTE)
    elif style == "structured":
        with_schema.add(server_of(chat))
    if telling:
        telling.up_to(found, prompt)
    return Reply(found, prompt.passages, spoken.tokens, (*notes, CUT_NOTE) if spoken.cut else notes, not spoken.cut)


def in_json(text: str) -> bool:
    """Return whether an answer is JSON, complete or not."""
    return bare(text).startswith("{")


def so_far(text: str, style: Style) -> tuple[Draft, ...]:
    """Return the complete pieces of an answer that is still being streamed."""
    if style == "structured" and in_json(text):
        return () if refuses(text) else drafts(complete(Claimed, "claims", text))
    return () if style == "structured" or abstains(text) else from_marks(pieces(text.lstrip())[:-1])


def structured(spoken: ChatResponse) -> tuple[Draft, ...]:
    """Return the claims of an answer in JSON; none if it says that the passages do not hold the answer.

    If the answer was cut off, only its complete claims count. Plain text with [n] marks is accepted too. Raises
    ``NoSchemaError`` if the answer is neither, and ``PartError`` if it was cut off before its first claim.
    """
    whole = parse(Structured, spoken.text)
    if whole is not None:
        return drafts(whole.claims) if whole.answerable else ()
    if refuses(spoken.text) or abstains(spoken.text):
        return ()
    if not in_json(spoken.text) and cited_numbers(spoken.text):
        return marked(spoken)
    found = drafts(complete(Claimed, "claims", spoken.text))
    if not found and spoken.cut and in_json(spoken.text):
        raise PartError(
            "Chat model: the answer was cut off before its first claim was complete. Raise "
            "LOCKSTEP_MAX_ANSWER_TOKENS, or set LOCKSTEP_ANSWERS=marked."
        )
    if not found:
        raise not_asked_for(spoken.text)
    return found


def not_asked_for(text: str) -> NoSchemaError:
    """Return the error for an answer outside the schema: plain text means that the server ignores schemas."""
    kind = OtherJSONError if in_json(text) else NoSchemaError
    return kind(f"Chat model: the answer is not the requested JSON: {text[:60]!r}")


def marked(spoken: ChatResponse) -> tuple[Draft, ...]:
    """Return the sentences of an answer in plain text, each with the citations of its [n] marks.

    Empty if the answer says that the passages do not hold it. If it was cut off, only complete sentences.
    """
    if abstains(spoken.text):
        return ()
    found = pieces(spoken.text)
    return from_marks(found[:-1] if spoken.cut and len(found) > 1 else found)


def from_marks(found: Sequence[tuple[str, str]]) -> tuple[Draft, ...]:
    """Return pairs of a sentence and the white space behind it as drafts with the citations of their marks."""
    return tuple(
        Draft(text, tuple(Cited(n) for n in cited_numbers(text)), after, states(text)) for text, after in found
    )


def _in_two_stages(chat: Chat, question: str, hits: Sequence[Hit], style: Style, tell: Tell | None) -> Reply:
    settings = chat.settings

    def make(some: Sequence[Hit]) -> Prompt:
        return build(question, some, "free", settings.system_prompt, settings.passage_order)

    prompt, first, notes = fitted(chat, hits, make, None)
    written = marked(first)
    if not written:
        return Reply((), prompt.passages, first.tokens, notes)
    written = tuple(replace(draft, text=without_marks(draft.text), cited=()) for draft in written)
    sentences = [draft.text for draft in written if draft.statement]
    if not sentences:  # only a heading: nothing to assign citations to, but a piece to pass on
        if tell:
            Telling(tell, style).up_to(written, prompt)
        return Reply(written, prompt.passages, first.tokens, notes, not first.cut)

    def make_second(some: Sequence[Hit]) -> Prompt:
        return build_assignment(question, sentences, some, style, settings.passage_order)

    def schema(passages: int) -> dict[str, Any]:
        return assignment_schema(len(sentences), passages)

    second_prompt, second, _ = fitted(
        chat, hits[: len(prompt.passages)], make_second, schema if style == "structured" else None
    )
    found = assigned(written, assignments(second, style))
    if style == "structured":
        with_schema.add(server_of(chat))
    if tell:
        Telling(tell, style).up_to(found, second_prompt)
    tokens = {name: first.tokens.get(name, 0) + second.tokens.get(name, 0) for name in first.tokens | second.tokens}
    cut = first.cut or second.cut
    return Reply(found, second_prompt.passages, tokens, (*notes, CUT_NOTE) if cut else notes, not cut)


def assignments(spoken: ChatResponse, style: Style) -> dict[int, tuple[Cited, ...]]:
    """Return the citations of each sentence, by its number from 1. Raises ``NoSchemaError`` for other JSON or text."""
    if style == "marked":
        lines = _LINE.findall(spoken.text)
        return {int(n): tuple(Cited(passage) for passage in cited_numbers(marks)) for n, marks in lines}
    whole = parse(Assignments, spoken.text)
    items = whole.sentences if whole else complete(Assigned, "sentences", spoken.text)
    if whole is None and not items and not spoken.cut:
        raise not_asked_for(spoken.text)
    return {one.sentence: cited(one.citations) for one in items}


def assigned(written: Sequence[Draft], by_sentence: dict[int, tuple[Cited, ...]]) -> tuple[Draft, ...]:
    """Return the sentences of an answer with the citations assigned to their numbers."""
    numbers = itertools.count(1)
    return tuple(
        replace(draft, cited=by_sentence.get(next(numbers), ())) if draft.statement else draft for draft in written
    )


@task(name="generate", **ONCE)
def generate(
    block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings, tell: Tell | None = None
) -> Reply:
    """Ask the chat model. Its client retries 429, 5xx and refused connections, as often as the block says."""
    return ask_model(block, question, hits, settings, tell)


@task(name="check citations", **ONCE)
def cite(reply: Reply, strict: bool = False) -> Checked:
    """Check the citations of a model's reply."""
    return check(reply.drafts, reply.passages, strict)
