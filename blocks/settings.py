"""The settings of one pipeline: one frozen model, recorded with every flow run that used it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SearchMode = Literal["auto", "dense", "hybrid", "lexical"]
Fusion = Literal["scores", "ranks"]
AnswerStyle = Literal["structured", "marked"]
Fallback = Literal["none", "extractive"]
Order = Literal["best_first", "best_last"]
PersonalData = Literal["allow", "mask", "refuse"]
Failure = Literal["open", "closed"]
ModerationApi = Literal["moderations", "chat"]


def _from_json(value: Any) -> Any:
    """Parse a string as JSON: an environment variable cannot hold an object otherwise."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError('not JSON, such as {"M": 16}') from error


Params = Annotated[dict[str, bool | int | str], BeforeValidator(_from_json)]


class Settings(BaseModel):
    """Everything about a pipeline that is not a connection.

    The first groups, up to ``index_params``, decide what a chunk and its vector look like. They are part of the
    fingerprint, so a change needs a new generation. The others may change from run to run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_tokens: int | None = Field(
        default=96,
        ge=16,
        le=8192,
        description="Maximum tokens of one chunk, heading path included; never more than the model reads.",
    )
    embed_heading: bool = Field(default=True, description="Put the heading path before the text when it is embedded.")

    tenants: bool = Field(
        default=False,
        description="Take the first part of a key as the object's tenant; a question then sees one tenant's objects.",
    )

    index_type: str = Field(
        default="HNSW",
        description="Vector index: HNSW, HNSW_SQ, IVF_FLAT, IVF_SQ8, IVF_PQ, DISKANN, FLAT, AUTOINDEX or a GPU one.",
    )
    index_params: Params = Field(
        default_factory=dict, description='Build parameters of the index, such as {"M": 32}; others have defaults.'
    )

    search_params: Params = Field(
        default_factory=dict, description='Search parameters of the index, such as {"ef": 128}; others have defaults.'
    )

    list_ranges: int = Field(
        default=4,
        ge=1,
        le=10,
        description="Ranges of 20,000 keys that are listed at once. 1: a listing after the other.",
    )
    batch_objects: int = Field(default=64, ge=1, le=1000, description="Maximum objects of one batch.")
    batch_bytes: int = Field(
        default=8_000_000,
        ge=1,
        description="Maximum bytes of one batch (one larger object is a batch of its own).",
    )
    wave_batches: int = Field(
        default=16, ge=1, le=100, description="Batches of one sub-flow; bounds memory and task runs."
    )
    parse_processes: int = Field(default=1, ge=1, le=64, description="Processes that parse files.")
    parse_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds after which the parsing of a file is stopped and the file quarantined.",
    )
    parse_memory_mb: int = Field(
        default=1024, ge=128, description="MiB that a parsing process may allocate (Linux only)."
    )
    wait_for_writer_seconds: float = Field(
        default=300.0, ge=0, description="Seconds a sync waits for another writer of the same generation."
    )

    max_failed_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="A sync stops when a larger share of its objects cannot be indexed: an outage, not bad files.",
    )
    max_failed_least: int = Field(
        default=5, ge=1, description="With fewer failed objects than this, a sync never stops for that reason."
    )
    max_deleted_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="A sync stops before it deletes a larger share of 100 or more objects. Of fewer: more than half "
        "and more than two. 0: any.",
    )
    withheld_hours: float = Field(
        default=6.0,
        ge=0.0,
        description="If the bucket does not hand out many objects, hours until they are quarantined, not an outage.",
    )

    gate_recall: float = Field(
        default=0.98, ge=0.0, le=1.0, description="Minimum recall@10 against exact search, for a promotion."
    )
    gate_latency: float = Field(
        default=1.5, gt=0.0, description="Maximum p95 search latency, as a multiple of the live generation's."
    )
    gate_samples: int = Field(
        default=100, ge=1, le=1000, description="Chunks that the gates of a promotion try, chosen at random."
    )
    golden: str = Field(
        default="",
        description="Golden questions for the gates of a promotion: a file, or s3://bucket/key (never indexed).",
    )
    gate_golden: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Maximum loss of recall@10 and of nDCG@10 on them in a promotion."
    )
    approval_hours: float = Field(
        default=24.0, gt=0.0, description="Hours that a promotion waits for a person's approval before it is rejected."
    )
    canary_questions: int = Field(
        default=20, ge=0, description="Questions that a canary must answer in each step; with fewer, it ends."
    )
    canary_errors: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Maximum rise of the share of failed questions in a canary."
    )
    canary_latency: float = Field(
        default=1.5, gt=0.0, description="Maximum p95 seconds of a question in a canary, as a multiple of live's."
    )
    canary_abstention: float = Field(
        default=0.1, ge=0.0, le=1.0, description="Maximum rise of the share of abstained questions in a canary."
    )
    canary_score: float = Field(
        default=0.1, ge=0.0, le=2.0, description="Maximum fall of the mean best score in a canary."
    )
    keep_generations: int = Field(
        default=2, ge=1, le=100, description="Generations kept for a rollback, the live one included."
    )
    keep_hours: float = Field(
        default=24.0, ge=0.0, description="Hours that a generation is kept after it was live, whatever their number."
    )

    mode: SearchMode = Field(
        default="auto",
        description="How chunks are found: dense, lexical (BM25), hybrid (both); auto is hybrid where Milvus has BM25.",
    )
    fusion: Fusion = Field(
        default="scores",
        description="How a hybrid search joins both: by their scores, weighted, or by reciprocal ranks in Milvus.",
    )
    dense_share: float = Field(
        default=0.7, ge=0.0, le=1.0, description="Weight of the dense score in a hybrid search; BM25 has the rest."
    )
    top_k: int = Field(default=8, ge=1, le=100, description="Chunks retrieved for a question.")
    min_score: float = Field(
        default=0.25,
        ge=-1.0,
        le=1.0,
        description="Minimum cosine similarity of a relevant chunk; if no chunk has it, `ask` abstains.",
    )
    rerank_model: str = Field(
        default="",
        description="Cross-encoder that reorders the chunks found: a name on the Hub, or a folder; empty for none.",
    )
    rerank_depth: int = Field(
        default=32, ge=1, le=1000, description="Chunks that the cross-encoder reads for a question."
    )
    near_copies: float = Field(
        default=0.9,
        gt=0.0,
        le=1.0,
        description="If a chunk shares this share of its word triples with a better one, it is left out as a copy.",
    )
    neighbours: int = Field(
        default=1,
        ge=0,
        le=10,
        description="Chunks before and after a found one, in its section, that are joined to it as one passage.",
    )
    passage_order: Order = Field(
        default="best_first", description="Order of the passages in the prompt: best_first or best_last."
    )
    extract_sentences: int = Field(default=3, ge=1, le=10, description="Maximum sentences of an extractive answer.")

    answers: AnswerStyle = Field(
        default="structured",
        description="How the chat model cites: structured (JSON with quotes) or marked ([n] in the text).",
    )
    stages: int = Field(
        default=1, ge=1, le=2, description="Calls of the chat model: 1, or 2, where the second only assigns citations."
    )
    strict: bool = Field(default=False, description="Leave out statements that no verified citation supports.")
    fallback: Fallback = Field(
        default="none",
        description="Answer if the chat model fails: none (an error) or extractive (sentences, with a note).",
    )
    cache_seconds: float = Field(
        default=3600.0,
        ge=0.0,
        le=31_536_000.0,
        description="Seconds for which the answer to a question is cached for the same index; 0: never.",
    )
    record_questions: bool = Field(
        default=False, description="Keep the text of questions in the service's records, not only their hashes."
    )
    record_days: float = Field(
        default=90.0, ge=0.0, le=36_500.0, description="Days for which the service's records of answers are kept."
    )
    personal_data: PersonalData = Field(
        default="allow",
        description="Personal data in questions: allow, mask or refuse; in answers the last two mask it.",
    )
    moderation_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Address of a moderation or a guard model, up to /v1; it checks questions and answers.",
    )
    moderation_api: ModerationApi = Field(
        default="moderations",
        description="moderations (OpenAI's /moderations) or chat (a guard model of vLLM's that says safe or unsafe).",
    )
    moderation_model: str = Field(default="", description="Model of the moderation; empty leaves it to the server.")
    moderation_failure: Failure = Field(
        default="closed",
        description="If the moderation does not answer: closed (an error) or open (a note, unchecked).",
    )
    system_prompt: str = Field(
        default="",
        max_length=20_000,
        description="System prompt, in place of the built-in one; the answer format is added to it.",
    )
    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description="Sampling temperature of the chat model.")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="Share of the likeliest tokens that the chat model samples from."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="Seed of the sampling; empty leaves it to the server."
    )
    max_answer_tokens: int = Field(
        default=1024, ge=16, le=32_768, description="Maximum tokens of the chat model's answer, JSON included."
    )
    context_tokens: int = Field(
        default=3072,
        ge=256,
        le=131072,
        description="Maximum tokens of passages in the prompt; counted by the server's /tokenize, else estimated.",
    )
