"""The bodies of OpenAI's routes, as far as they are honoured here. Sampling fields that mean nothing here are taken."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.server.errors import RequestError

MOST_MESSAGES = 200
MOST_CHARACTERS = 100_000
"""Of the last turn: a chat page's own task holds the conversation. A question to the documents may have fewer."""
REFUSED = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
}
"""Fields that would change the answer, which cannot be done, with the values that ask for nothing.

Tools may be offered: Open WebUI always offers its own. A model may leave them, and this one does.
"""


class Loose(BaseModel):
    """A request as OpenAI's clients send it: fields that are not known are taken and left."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Message(Loose):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        """Return the text of the turn. Raises ``RequestError`` for pictures and sounds."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        kinds = {str(part.get("type")) for part in self.content} - {"text", "input_text"}
        if kinds:
            raise RequestError(
                f"messages: only text is read, not {sorted(kinds)[0][:40]}", 400, "unsupported", "messages"
            )
        return "\n".join(str(part.get("text", "")) for part in self.content)


class StreamOptions(Loose):
    """What a stream ends with."""

    include_usage: bool | None = None


class ChatRequest(Loose):
    """A conversation whose last question is to be answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "docs", "messages": [{"role": "user", "content": "How is a rename handled?"}]}]
        }
    )

    model: str = Field(min_length=1, max_length=255)
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    max_tokens: int | None = Field(default=None, ge=1, le=32_768)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=32_768)
    n: int | None = None
    user: str | None = Field(default=None, max_length=1024)

    def check(self) -> None:
        """Raise ``RequestError`` naming a field that asks for what cannot be done."""
        for name, harmless in REFUSED.items():
            if (self.model_extra or {}).get(name) not in (None, [], {}, *harmless):
                raise RequestError(f"{name} cannot be honoured here: leave it out", 400, "unsupported_field", name)
        if self.n not in (None, 1):
            raise RequestError("n: one answer is given to a question", 400, "unsupported_field", "n")
        asked = [turn.text() for turn in self.messages if turn.role == "user" and turn.text().strip()]
        if not asked or len(asked[-1]) > MOST_CHARACTERS:
            raise RequestError(
                f"messages: there has to be a question of a user, of at most {MOST_CHARACTERS:,} characters", 400,
                "invalid_messages", "messages",
            )  # fmt: skip

    def turns(self) -> list[tuple[str, str]]:
        """Return role and text of each turn that says something."""
        return [(turn.role, turn.text()) for turn in self.messages if turn.text().strip()]


class Model(BaseModel):
    """A pipeline as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """All pipelines as models."""

    object: Literal["list"]
    data: list[Model]


class Completion(Loose):
    """An answer: OpenAI's fields, and beside them `citations`, `sources` and `lockstep`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]


class VectorStore(Loose):
    """A pipeline as a vector store."""

    id: str
    object: Literal["vector_store"]
    name: str


class VectorStores(Loose):
    """All pipelines as vector stores."""

    object: Literal["list"]
    data: list[VectorStore]
    has_more: bool


class RankingOptions(Loose):
    """How results are ranked."""

    score_threshold: float | None = None


class StoreSearch(Loose):
    """A search in a vector store."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "How is a rename handled?"}]})

    query: str | list[str] = Field(min_length=1)
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None


class StorePage(Loose):
    """What a search in a vector store found."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[dict[str, Any]]
    has_more: bool
    next_page: str | None
