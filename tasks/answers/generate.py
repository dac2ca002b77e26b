"""Have the chat model write an answer: as JSON with quotes, or with [n] marks; in one stage, or in two."""

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


MARKED_NOTE = "the chat server writes no JSON by a schema: citations are [n] marks, their quotes found by Lockstep"
CUT_NOTE = "the answer came to LOCKSTEP_MAX_ANSWER_TOKENS and was cut off: what is complete of it is shown"
_LINE = re.compile(r"^[^\w\n]*+(\d{1,3})\s*+[:.)]((?:\s*+\[[\d\s,]++\])+)", re.MULTILINE)

Tell = Callable[[Draft, Prompt], None]
"""Is told each piece of the answer as soon as it is complete."""

with_schema: set[tuple[str, str]] = set()
without_schema: set[tuple[str, str]] = set()
"""Servers and models that were asked for JSON by a schema in this process and gave some; and those that never did."""


class Telling:
    """Tells the pieces of an answer while it comes, each once."""

    def __init__(self, tell: Tell, style: Style) -> None:
        self._tell, self._style, self._told = tell, style, 0

    def hearing(self, prompt: Prompt) -> Heard:
        """Return a callback that takes the text so far."""
        return lambda text: self.up_to(so_far(text, self._style), prompt)

    def up_to(self, found: Sequence[Draft], prompt: Prompt) -> None:
        """Tell those pieces that were not told yet."""
        for draft in found[self._told :]:
            self._tell(draft, prompt)
        self._told = max(self._told, len(found))


def ask_model(
    block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings, tell: Tell | None = None
) -> Reply:
    """Return the model's reply to the question and the passages that fit.

    When the server says the prompt is too long, the lowest-ranked passages are left out and it is asked again. A
    server without JSON schemas is asked for [n] marks instead, from then on at once. Raises ``PartError`` or
    ``TransientError`` naming the setting to look at.
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
    """Return the key under which a server's abilities are remembered: its address and the requested model."""
    return (chat.block.base_url, chat.block.model or "")


def may_give_json(chat: Chat) -> bool:
    """Return whether a server may be asked for JSON: it was not written off, or has returned JSON since."""
    return server_of(chat) not in without_schema or server_of(chat) in with_schema


def write_off(chat: Chat) -> None:
    """Stop asking a server for JSON, unless it returned some before: then this answer is to blame, not the server."""
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
    """Return whether an answer is JSON, whole or not."""
    return bare(text).startswith("{")


def so_far(text: str, style: Style) -> tuple[Draft, ...]:
    """Return the complete part of an answer that is still streaming."""
    if style == "structured" and in_json(text):
        return () if refuses(text) else drafts(complete(Claimed, "claims", text))
    return () if style == "structured" or abstains(text) else from_marks(pieces(text.lstrip())[:-1])


def structured(spoken: ChatResponse) -> tuple[Draft, ...]:
    """Return the claims of an answer in JSON; none when it says that the passages do not hold the answer.

    Of an answer that was cut off, the complete ones; of plain text with [n] marks, what it says. Raises
    ``NoSchemaError`` when it is neither, and ``PartError`` when it was cut off too early.
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
            "Chat model: its answer was cut off before the first claim was complete. Raise LOCKSTEP_MAX_ANSWER_TOKENS, "
            "or set LOCKSTEP_ANSWERS=marked."
        )
    if not found:
        raise not_asked_for(spoken.text)
    return found


def not_asked_for(text: str) -> NoSchemaError:
    """Return the error for an answer that is not the JSON of the schema; plain text says that the server has none."""
    kind = OtherJSONError if in_json(text) else NoSchemaError
    return kind(f"Chat model: its answer is not the JSON that was asked for: {text[:60]!r}")


def marked(spoken: ChatResponse) -> tuple[Draft, ...]:
    """Return the sentences of an answer in plain text, each with what its [n] marks cite.

    None when it says that the passages do not hold the answer; of one that was cut off, the complete ones.
    """
    if abstains(spoken.text):
        return ()
    found = pieces(spoken.text)
    return from_marks(found[:-1] if spoken.cut and len(found) > 1 else found)


def from_marks(found: Sequence[tuple[str, str]]) -> tuple[Draft, ...]:
    """Return sentences, each with the white space behind it, as drafts that cite what their marks say."""
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
    if not sentences:  # a heading alone: there is nothing to assign, but something to tell
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
    """Return what each sentence, by its number from 1, rests on. Raises ``NoSchemaError`` when it is no such JSON."""
    if style == "marked":
        lines = _LINE.findall(spoken.text)
        return {int(n): tuple(Cited(passage) for passage in cited_numbers(marks)) for n, marks in lines}
    whole = parse(Assignments, spoken.text)
    items = whole.sentences if whole else complete(Assigned, "sentences", spoken.text)
    if whole is None and not items and not spoken.cut:
        raise not_asked_for(spoken.text)
    return {one.sentence: cited(one.citations) for one in items}


def assigned(written: Sequence[Draft], by_sentence: dict[int, tuple[Cited, ...]]) -> tuple[Draft, ...]:
    """Return the sentences of an answer with the citations that were assigned to them, by number."""
    numbers = itertools.count(1)
    return tuple(
        replace(draft, cited=by_sentence.get(next(numbers), ())) if draft.statement else draft for draft in written
    )


@task(name="generate", **ONCE)
def generate(
    block: ChatModel, question: str, hits: Sequence[Hit], settings: Settings, tell: Tell | None = None
) -> Reply:
    """Ask the chat model; 429, 5xx and refused connections are tried again, as often as its block says."""
    return ask_model(block, question, hits, settings, tell)


@task(name="check citations", **ONCE)
def cite(reply: Reply, strict: bool = False) -> Checked:
    """Check the citations of a model's reply."""
    return check(reply.drafts, reply.passages, strict)
