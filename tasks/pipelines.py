"""Load a pipeline by its name."""

from __future__ import annotations

from typing import cast

from blocks.embedder import Embedder
from blocks.pipeline import Pipeline
from tasks.errors import MisuseError
from tasks.logs import clean_logs
from tasks.tenants import check_prefix


def load_pipeline(name: str) -> Pipeline:
    """Return the saved pipeline block of that name. Raises ``MisuseError`` when there is none, or it will not do.

    It holds addresses and passwords: from here on the lines that this process logs are cleaned.
    """
    clean_logs()
    try:
        loaded = cast(Pipeline, Pipeline.load(name))
    except ValueError as error:
        raise MisuseError(
            f"there is no pipeline '{name}': `lockstep up` saves the one that the environment describes, and the "
            "Prefect UI shows the others under Blocks."
        ) from error
    check_prefix(loaded.settings.tenants, loaded.source.prefix)
    return loaded


def reloaded(pipeline: Pipeline) -> Pipeline:
    """Return a loaded pipeline as it is saved now; one that was never saved as it is."""
    name = pipeline._block_document_name
    return load_pipeline(name) if name else pipeline


def save_pipeline(pipeline: Pipeline, embedder: Embedder) -> None:
    """Save a loaded pipeline with another embedder, which becomes a block of the pipeline's own name."""
    name = pipeline._block_document_name
    embedder.save(name, overwrite=True)
    pipeline.model_copy(update={"embedder": embedder}).save(name, overwrite=True)
