"""A model is loaded once a process, whoever asks for it."""

from __future__ import annotations

import uuid

from blocks.embedder import Embedder
from tasks.embedding.model import load_model


def saved(name: str, **fields: object) -> Embedder:
    """Return an embedder as it is when it was loaded from Prefect under a name."""
    embedder = Embedder(**fields)
    embedder._block_document_id, embedder._block_document_name = uuid.uuid4(), name
    return embedder


def test_pipelines_that_have_the_same_model_share_it() -> None:
    one, other = load_model(saved("docs")), load_model(saved("manuals"))
    assert one is other
    assert load_model(saved("manuals", query_prompt="query: ")) is not one
