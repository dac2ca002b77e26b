"""What the tools take and return. Unknown arguments are refused: a typo is noticed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from deployments.server.schemas import AskAnswer, Body, CitationShown, PipelineName
from tasks.retrieval.question import LONGEST


class Scoped(Body):
    """What `search` and `ask` have in common."""

    pipeline: PipelineName | None = None
    top_k: int | None = Field(
        default=None, ge=1, le=100, description="Passages to find at the most; left out: as the pipeline has it."
    )
    filter: str = Field(
        default="", max_length=LONGEST, description="Only these objects, such as `key=guides/* and metadata.team=docs`."
    )


class SearchArguments(Scoped):
    """The arguments of `search`."""

    query: str = Field(min_length=1, max_length=LONGEST, description="What to look for, as a question or as words.")


class AskArguments(Scoped):
    """The arguments of `ask`."""

    question: str = Field(min_length=1, max_length=LONGEST, description="The question, so that it stands alone.")
    strict: bool | None = Field(
        default=None, description="Leave out claims without a verified quote; left out: as the pipeline has it."
    )


class FetchArguments(Body):
    """The arguments of `fetch`."""

    id: str = Field(min_length=1, max_length=512, description="The id of a result of `search`, or of a citation.")


class Result(BaseModel):
    """A passage that was found. ``id`` is what `fetch` takes; ``url`` opens the passage for a week."""

    id: str
    title: str
    url: str
    text: str
    score: float
    key: str
    heading: str
    page: int | None
    outdated: bool = Field(default=False, description="It is of an older version; the newest is in quarantine.")


class Results(BaseModel):
    """The passages nearest to a query, best first."""

    results: list[Result]
    pipeline: str
    collection: str
    notes: list[str]


class Metadata(BaseModel):
    """Where a passage comes from. ``version`` is its object's ETag."""

    pipeline: str
    collection: str
    chunk_id: str
    key: str
    heading: str
    page: int | None
    version: str
    outdated: bool
    notes: list[str]


class Document(BaseModel):
    """A passage with the section around it."""

    id: str
    title: str
    text: str
    url: str
    metadata: Metadata


class CitationWithUrl(CitationShown):
    """A passage that an answer rests on. ``id`` is what `fetch` takes; both are empty for a passage that is none."""

    id: str
    url: str


class AskResult(AskAnswer):
    """An answer with what it rests on."""

    model_config = ConfigDict(extra="ignore")

    pipeline: str
    citations: list[CitationWithUrl]  # type: ignore[assignment]
