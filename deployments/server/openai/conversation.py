"""What a conversation asks: its last question, condensed with the turns before it; or a chat page's own task.

Chat pages send the same model prompts of their own (a title, tags, follow-up questions for a conversation), which begin
with '### Task:'. They are no questions to the documents: the chat model gets them as they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.answers.cache import CachedAnswer
from tasks.answers.release import release
from tasks.chat.client import Chat
from tasks.errors import PartError, TransientError
from tasks.guards.personal_data import OVERLAP, masked
from tasks.guards.questions import admit, admit_moderated
from tasks.listeners import reader
from tasks.models import Answer, Checked
from tasks.retrieval.question import LONGEST

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings

logger = logging.getLogger(__name__)
TASK = "### Task:"
TURNS, TURN_CHARACTERS = 12, 2000
"""Of the turns before a question the last ones, and so much of each, are read to condense it."""
READ = TURN_CHARACTERS + OVERLAP
"""Characters in which personal data is sought: what begins before the end of a turn is found whole."""
CONDENSE = (
    "You are shown a conversation. Rewrite its last question so that it can be understood without the conversation: "
    "put names in place of pronouns, add what is needed, change nothing else, and answer nothing. Answer with one "
    'JSON object: {"question": "the question"}.'
)
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "minLength": 1, "maxLength": 1000}},
    "required": ["question"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The last question of a conversation, the turns before it, and whether it is a task of the chat page."""

    question: str
    before: tuple[tuple[str, str], ...] = ()
    task: bool = False

    def condensed(self, pipeline: Pipeline, settings: Settings) -> str:
        """Return the question as it can be understood alone; as it is where there is nothing to condense, or no model.

        A chat model that fails at it costs the conversation, not the answer. Guards come before the chat model. In
        earlier turns personal data is masked also where it is refused: it was refused when it was asked.
        """
        if not self.before or pipeline.chat_model is None:
            return self.question
        asked, _ = admit(self.question, settings, pipeline.chat_model)
        told = [f"{role}: {unpersonal(text[:READ], settings)[:TURN_CHARACTERS]}" for role, text in self.before[-TURNS:]]
        content = "\n".join([*told, f"user: {asked}"])
        messages = [{"role": "system", "content": CONDENSE}, {"role": "user", "content": content}]
        short = settings.model_copy(update={"max_answer_tokens": 400, "temperature": 0.0})
        try:
            with Chat(pipeline.chat_model, short) as chat:
                said = chat.say(messages, SCHEMA, lambda _text: None)
            question = json.loads(said.text)["question"]
        except (TransientError, PartError, ValueError, KeyError, TypeError) as error:
            logger.warning("a question was not condensed with its conversation: %s", type(error).__name__)
            return asked
        return question.strip()[:LONGEST] if isinstance(question, str) and question.strip() else asked

    def task_answer(self, pipeline: Pipeline, settings: Settings) -> Answer:
        """Return what the chat model says to a task of the chat page, or what stands for it without a model.

        A task holds a conversation, or whatever somebody calls one: the guards are those of questions and answers.
        """
        began = time.monotonic()
        asked = unpersonal(self.question, settings)
        warnings: tuple[str, ...] = ()
        if pipeline.chat_model is None:
            written = CachedAnswer(without_model(asked), "generated", tokens={})
        else:
            warnings = admit_moderated(asked, settings, pipeline.chat_model)
            with Chat(pipeline.chat_model, settings) as chat:
                said = chat.say([{"role": "user", "content": asked}], None, lambda _text: None)
            written = release(CachedAnswer(said.text, "generated", tokens=said.tokens), settings, pipeline.chat_model)
        if tell := reader.get():
            tell(Checked(written.text))
        seconds = {"total": round(time.monotonic() - began, 4)}
        notes = tuple(dict.fromkeys((*warnings, *written.notes)))
        return Answer("", written.text, written.mode, (), "", seconds, written.tokens or {}, notes)


def conversation(turns: Sequence[tuple[str, str]]) -> Conversation:
    """Return what a conversation asks; ``turns`` are role and text, the last user's is the question."""
    last = max(at for at, (role, _) in enumerate(turns) if role == "user")
    question = turns[last][1].strip()
    if question.startswith(TASK):
        return Conversation(question, task=True)
    return Conversation(question, tuple(turn for turn in turns[:last] if turn[0] in ("user", "assistant")))


def unpersonal(text: str, settings: Settings) -> str:
    """Return a text without personal data, where the settings mask or refuse it."""
    return text if settings.personal_data == "allow" else masked(text)[0]


def without_model(task: str) -> str:
    """Return what a chat page takes for an answer to its task, where there is no chat model to ask."""
    lowered = task[:2000].lower()
    if "tags" in lowered:
        return json.dumps({"tags": []})
    if "follow" in lowered:
        return json.dumps({"follow_ups": []})
    if "queries" in lowered:
        return json.dumps({"queries": []})
    _, _, history = task.partition("<chat_history>")
    words = history.replace("</chat_history>", "").removeprefix("\nUSER:").split()[:6]
    return json.dumps({"title": " ".join(words) or "Conversation"})
