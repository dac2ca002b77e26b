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
"""The fields that say which bucket, which index and which ledger belong together."""


def load_pipeline(name: str) -> Pipeline:
    """Return the saved pipeline block of that name. Raises ``MisuseError`` if there is none, or it is invalid.

    The block holds addresses and passwords. So passwords are removed from this process's log lines from now on.
    """
    clean_logs()
    try:
        loaded = cast(Pipeline, Pipeline.load(name))
    except ValueError as error:
        raise MisuseError(
            f"there is no pipeline '{name}'. `lockstep up` saves the one that the environment describes. The Prefect "
            "UI shows the others under Blocks."
        ) from error
    keep_secrets(loaded)
    check_prefix(loaded.settings.tenants, loaded.source.prefix)
    return loaded


def reloaded(pipeline: Pipeline) -> Pipeline:
    """Return a loaded pipeline as it is saved now. A pipeline that was never saved is returned unchanged."""
    name = pipeline._block_document_name
    return load_pipeline(name) if name else pipeline


def moved(before: Pipeline, now: Pipeline) -> list[str]:
    """Return the fields by which two pipelines differ in bucket, index, alias or ledger. Empty if they agree."""
    fields = [f"{part}.{name}" for part, names in PLACE.items() for name in names]
    found = [one for one in fields if attrgetter(one)(before) != attrgetter(one)(now)]
    return found if before.alias == now.alias else ["alias", *found]


def still_saved(pipeline: Pipeline) -> Pipeline:
    """Return a loaded pipeline as it is saved now.

    Raises ``ChangedError`` if the saved one has another bucket, index or ledger. A run that went on would write the
    objects of one bucket into the index of another.
    """
    now = reloaded(pipeline)
    if changed := moved(pipeline, now):
        raise ChangedError(
            f"the pipeline '{pipeline._block_document_name}' was changed while this run waited ({', '.join(changed)}). "
            "This run changed nothing. The next run works with the pipeline as it is saved now."
        )
    return now


def save_pipeline(pipeline: Pipeline, embedder: Embedder | None = None) -> None:
    """Save a loaded pipeline. Another embedder is saved first, as a block under the pipeline's own name."""
    name = pipeline._block_document_name
    if embedder:
        embedder.save(name, overwrite=True)
        pipeline = pipeline.model_copy(update={"embedder": embedder})
    pipeline.save(name, overwrite=True)


def check_prefix(tenants: bool, prefix: str) -> None:
    """Raise ``MisuseError`` if tenants are used and the prefix ends within a folder's name.

    Part of that name would be a tenant: with the prefix docs, docsacme/a.md would belong to the tenant acme.
    """
    if tenants and prefix and not prefix.endswith("/"):
        raise MisuseError(
            f"with tenants (LOCKSTEP_TENANTS) the prefix must end in '/', and '{prefix}' does not. The rest of a "
            f"folder's name would be a tenant. Set PREFIX={prefix}/ or leave it empty, then run `lockstep rebuild`."
        )
