"""Run flows/sync.py with its tasks as plain functions. This saves the second that Prefect needs for each run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from prefect import Task

from blocks.s3_source import S3Source
from flows import audit, index_wave, sync, work
from tasks import resources
from tasks.errors import DeletionError, OutageError
from tasks.ledger.quarantine import RUNS_OF_DOUBT

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from flows.index_wave import Wave
    from tasks.indexing.batches import Stage
    from tasks.models import SyncReport


def plain_wave(stage: Stage, _number: int, work: Wave) -> None:
    """Do the work of `index_wave`, one batch after the other."""
    index_wave.run_plainly(stage, work)


class InProcess:
    """A stand-in for the parsing processes, for harmless files."""

    def __init__(self, *_: Any) -> None:
        from tasks.documents.parse import use_plain_tokenizer

        use_plain_tokenizer()

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no process to end."""

    def start(self, function: Any, *args: Any) -> Any:
        """Run the function at once."""
        try:
            return function(*args), None
        except Exception as error:
            return None, error

    def result(self, handle: Any) -> Any:
        """Return the result of the function, or raise its error."""
        value, error = handle
        if error:
            raise error
        return value


@contextmanager
def engineless(pipeline: Pipeline, s3: Any) -> Iterator[None]:
    """Run `sync` and `audit` without Prefect, with this pipeline and this S3 client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "Isolated", InProcess)
        patch.setattr(S3Source, "get_client", lambda _source: s3)  # making one takes a quarter of a second
        patch.setattr(s3, "close", lambda: None)
        for module in (sync, audit):
            patch.setattr(module, "load_pipeline", lambda _name: pipeline)
            patch.setattr(module, "create_markdown_artifact", lambda *_, **__: None)
            patch.setattr(module, "get_run_logger", lambda: logging.getLogger("engineless"))
        for module in (sync, audit, work):
            for name, found in list(vars(module).items()):
                if isinstance(found, Task):
                    patch.setattr(module, name, found.fn)
        patch.setattr(work, "run_wave", plain_wave)
        patch.setattr(work, "emit_quarantined", lambda *_: None)
        patch.setattr(audit, "sync", sync.sync.fn)
        yield


def plain_sync(keys: list[str] | None = None, **consent: bool) -> SyncReport:
    """Sync inside :func:`engineless`, or only some ``keys``, with a person's ``consent``."""
    report: SyncReport = sync.sync.fn("any", keys=keys, **consent)
    return report


def meant_sync(**consent: bool) -> SyncReport:
    """Sync. If the sync stops because of too many deletions, allow them and sync again."""
    try:
        return plain_sync(**consent)
    except DeletionError:
        return plain_sync(**{**consent, "allow_deletions": True})


def patient_sync(**consent: bool) -> SyncReport:
    """Sync until the files are known to be bad. A sync takes many failures for an outage, but not in a third run."""
    for _ in range(RUNS_OF_DOUBT):
        with suppress(OutageError):
            return meant_sync(**consent)
    return meant_sync(**consent)
