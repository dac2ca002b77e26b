"""Helpers to inspect a small pipeline with generations."""

from __future__ import annotations

from typing import Any

from tasks.generations.overview import overview
from tasks.ledger.database import Database
from tasks.milvus.store import Store
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import search_all
from tasks.retrieval.question import Question

TOPICS = ["apples", "bridges", "clouds", "deserts", "engines", "forests", "glaciers", "harbours"]


def document(topic: str) -> str:
    return "\n\n".join([f"# On {topic}", *(f"## Part {n}\n\nPart {n} tells of {topic} at length. " for n in range(6))])


def states(name: str) -> dict[int, str]:
    return {row["number"]: row["state"] for row in overview(name)}


def opened(name: str) -> tuple[Store, Database]:
    block = load_pipeline(name)
    return Store(block.store, block.alias), Database(block.ledger)


def found(name: str, question: str = "What is told of clouds?") -> Any:
    block = load_pipeline(name)
    (one,) = search_all(block, [Question("", question)], block.settings)
    return one
