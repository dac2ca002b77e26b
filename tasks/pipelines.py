"""Load a pipeline by its name."""

from __future__ import annotations

from operator import attrgetter
from typing import cast

from blocks.embedder import Embedder
from blocks.pipeline import Pipeline
from tasks.errors import ChangedError, MisuseError
from tasks.logs import clean_logs
from tasks.sanitize import keep_secrets

PLACE = {"source": ("bucket", "prefix", "endpoint_url"), "store": ("uri", "database"), "ledger": ("url",)}
"""What says which bucket, which index and which ledger belong together."""


def load_pipeline(name: str) -> Pipeline:
    """Return the saved pipeline block of that name. Raises ``MisuseError`` when there is none, or it is invalid.

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
    keep_secrets(loaded)
    check_prefix(loaded.settings.tenants, loaded.source.prefix)
    return loaded


def reloaded(pipeline: Pipeline) -> Pipeline:
    """Return a loaded pipeline as it is saved now; one that was never saved as it is."""
    name = pipeline._block_document_name
    return load_pipeline(name) if name else pipeline


def moved(before: Pipeline, now: Pipeline) -> list[str]:
    """Return the fields in which two pipelines name another bucket, index or ledger; none if they are the same."""
    fields = [f"{part}.{name}" for part, names in PLACE.items() for name in names]
    found = [one for one in fields if attrgetter(one)(before) != attrgetter(one)(now)]
    return found if before.alias == now.alias else ["alias", *found]


def still_saved(pipeline: Pipeline) -> Pipeline:
    """Return a loaded pipeline as it is saved now.

    Raises ``ChangedError`` when that is of another bucket, index or ledger: a run that would go on would write what
    the one bucket holds into the index of another.
    """
    now = reloaded(pipeline)
    if changed := moved(pipeline, now):
        raise ChangedError(
            f"the pipeline '{pipeline._block_document_name}' was changed while this run waited ({', '.join(changed)}). "
            "Nothing was changed; the next run works with what is saved now."
        )
    return now


def save_pipeline(pipeline: Pipeline, embedder: Embedder | None = None) -> None:
    """Save a loaded pipeline; with another embedder, which becomes a block of the pipeline's own name."""
    name = pipeline._block_document_name
    if embedder:
        embedder.save(name, overwrite=True)
        pipeline = pipeline.model_copy(update={"embedder": embedder})
    pipeline.save(name, overwrite=True)


def check_prefix(tenants: bool, prefix: str) -> None:
    """Raise ``MisuseError`` for a prefix that ends within a folder's name: with tenants, part of that would be one.

    With docs, docsacme/a.md would be acme's as docs/acme/a.md is not.
    """
    if tenants and prefix and not prefix.endswith("/"):
        raise MisuseError(
            f"with tenants (LOCKSTEP_TENANTS) the prefix ends in '/', and '{prefix}' does not: it would take the rest "
            f"of a folder's name for a tenant. Set PREFIX={prefix}/ or leave it empty, then run `lockstep rebuild`."
        )
