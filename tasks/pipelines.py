"""Load a pipeline by its name."""

from __future__ import annotations

from typing import cast

from blocks.pipeline import Pipeline
from tasks.errors import MisuseError


def load_pipeline(name: str) -> Pipeline:
    """Return the saved pipeline block of that name. Raises ``MisuseError`` when there is none."""
    try:
        return cast(Pipeline, Pipeline.load(name))
    except ValueError as error:
        raise MisuseError(
            f"there is no pipeline '{name}': `lockstep up` saves the one that the environment describes, and the "
            "Prefect UI shows the others under Blocks."
        ) from error


def save_pipeline(pipeline: Pipeline) -> None:
    """Save a loaded pipeline, and the embedder it nests, under the names that they have."""
    for block in (pipeline.embedder, pipeline):
        block.save(block._block_document_name, overwrite=True)
