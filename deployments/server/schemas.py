"""What the service takes and gives: every body, with examples. Unknown fields are refused: a typo is noticed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.retrieval.question import LONGEST

QUESTION = "What happens to a file that cannot be parsed?"
PipelineName = Annotated[str, Field(min_length=1, max_length=255, description="A pipeline; left out: the default one.")]


class Body(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class SearchRequest(Body):
    """A question, and how to look for what it is about. What is left out is as the pipeline has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"question": QUESTION, "top_k": 3}]})

    question: str = Field(min_length=1, max_length=LONGEST, description="What to look for.")
    pipeline: PipelineName | None = None
    top_k: int | None = Field(default=None, ge=1, le=100, description="Chunks to return at the most.")
    mode: Literal["auto", "dense", "hybrid", "lexical"] | None = Field(
        default=None, description="By meaning (dense), by words (lexical), or both (hybrid)."
    )
    filter: str = Field(
        default="", max_length=LONGEST, description="Only these objects, such as `key=guides/* and metadata.team=docs`."
    )
    tenant: str = Field(default="", max_length=1024, description="Whose objects, where the pipeline has tenants.")
    session: str = Field(
        default="", max_length=1024, description="During a canary, questions of one session go to the same generation."
    )

    def overrides(self) -> dict[str, Any]:
        """Return the settings that the request replaces."""
        given = {"top_k": self.top_k, "mode": self.mode}
        return {name: value for name, value in given.items() if value is not None}


class AskRequest(SearchRequest):
    """A question to be answered. What is left out is as the pipeline has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"question": QUESTION, "stream": False}]})

    stream: bool = Field(default=False, description="Answer as server-sent events, each claim once it is checked.")
    strict: bool | None = Field(default=None, description="Leave out claims without a verified quote.")
    fallback: Literal["none", "extractive"] | None = Field(
        default=None, description="What answers when the chat model fails."
    )
    cache: bool = Field(default=True, description="Whether an answer to the same question may be given again.")

    def overrides(self) -> dict[str, Any]:
        """Return the settings that the request replaces."""
        given = {"strict": self.strict, "fallback": self.fallback, "cache_seconds": None if self.cache else 0.0}
        return super().overrides() | {name: value for name, value in given.items() if value is not None}


class FoundChunk(BaseModel):
    """A chunk that was found."""

    key: str
    chunk_id: str
    score: float
    text: str
    heading: str
    page: int | None
    outdated: bool = Field(default=False, description="It is of an older version; the newest is in quarantine.")
    url: str = Field(description="Shows the passage; works for a week, without a key.")


class SearchAnswer(BaseModel):
    """The chunks nearest to a question, best first."""

    collection: str
    hits: list[FoundChunk]
    seconds: dict[str, float]
    notes: list[str] = []


class CitationShown(BaseModel):
    """A passage that an answer rests on; ``span`` says where the quote stands in the chunk."""

    n: int
    key: str
    heading: str
    page: int | None
    quote: str
    verified: bool
    version: str
    span: tuple[int, int] | None
    chunk_id: str
    outdated: bool = False
    url: str = Field(description="Shows the passage with the quote marked; works for a week, without a key.")


class ClaimShown(BaseModel):
    """A statement of an answer, and the numbers of what it cites."""

    text: str
    citations: list[int]
    verified: bool


class AskAnswer(BaseModel):
    """An answer with what it rests on; ``id`` is what `/feedback` takes."""

    id: str
    answer: str
    mode: Literal["generated", "extractive", "abstained"]
    collection: str
    flow_run_id: str
    seconds: dict[str, float]
    tokens: dict[str, int]
    claims: list[ClaimShown]
    cached: bool
    citations: list[CitationShown]
    notes: list[str]


class Feedback(Body):
    """What somebody thinks of an answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "0" * 32, "verdict": "down", "reason": "Wrong."}]})

    id: str = Field(min_length=1, max_length=64, description="The answer's id; that of a chat completion, too.")
    verdict: Literal["up", "down"]
    reason: str = Field(default="", max_length=2000)
    pipeline: PipelineName | None = None


class Thanks(BaseModel):
    """The verdict was recorded."""

    recorded: bool


class PartlyRecorded(BaseModel):
    """A notification of which a part cannot be read: how many keys were recorded, and how many parts are unread."""

    recorded: int
    unreadable: int


class Problem(BaseModel):
    """Why a request was not answered."""

    message: str
    type: str
    param: str | None
    code: str
    request_id: str


class Refusal(BaseModel):
    """The one envelope of all errors."""

    error: Problem


class CanaryState(BaseModel):
    """A generation in canary, and its share of the questions in percent."""

    generation: str
    share: int


class IndexState(BaseModel):
    """How a pipeline's index is. What a part did not tell is null, and `notes` say why.

    With a key of a tenant, objects are those of the tenant.
    """

    pipeline: str
    generation: str = Field(description="The generation that answers.")
    canary: CanaryState | None = None
    objects: int | None = Field(default=None, description="Objects that answer.")
    quarantined: int | None = Field(default=None, description="Objects whose newest version cannot be indexed.")
    waiting: int | None = Field(default=None, description="Objects that the next sync works on.")
    lag_seconds: float | None = Field(
        default=None, description="Age of the oldest change that is known and not answerable yet, of all tenants."
    )
    chunks: int | None = None
    synced_at: str | None = Field(default=None, description="When the last completed sync began (ISO 8601).")
    age_seconds: float | None = Field(default=None, description="How long ago that was.")
    audited_at: str | None = Field(default=None, description="When an audit last found no difference (ISO 8601).")
    notes: list[str] = []


class PartState(BaseModel):
    """Whether a part answers, and why not."""

    name: str
    ready: bool
    detail: str


class Readiness(BaseModel):
    """Whether questions can be answered, part by part."""

    ready: bool
    parts: list[PartState]
