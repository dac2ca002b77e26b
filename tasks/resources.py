"""The clients, the model and the parsing processes of one sync, opened once and passed down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from prefect import task

from tasks.addresses import check_address
from tasks.bucket.errors import s3_errors
from tasks.bucket.listing import without_golden
from tasks.documents.chunk import Measure, capacity_of
from tasks.documents.sandbox import Isolated
from tasks.embedding.model import EmbeddingModel, load_model
from tasks.ledger.database import Database
from tasks.ledger.lease import writing
from tasks.listeners import Listener, listener
from tasks.milvus.store import Store
from tasks.task_runs import RETRIED, run_logger

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3 import S3Client

    from blocks.pipeline import Pipeline
    from blocks.s3_source import S3Source
    from blocks.settings import Settings


@dataclass(frozen=True, slots=True)
class Consent:
    """A person's consent for this run alone: to many deletions, or to another bucket than the generation holds."""

    allow_deletions: bool = False
    accept_source: bool = False


_kept: dict[tuple[int, float, int], Isolated] | None = None
"""The parsing processes that outlive a sync, by their number and limits, in a process that syncs again and again."""


@contextmanager
def keeping_parsers() -> Iterator[None]:
    """Keep the parsing processes of all syncs inside. To start one takes a third of a second. End them afterwards."""
    global _kept  # noqa: PLW0603 - the processes are this process' own
    _kept = {}
    try:
        yield
    finally:
        kept, _kept = _kept, None
        for isolated in kept.values():
            isolated.__exit__(KeyboardInterrupt)


class Resources:
    """The clients, the model and the parsing processes of one sync; a context manager.

    It connects to the bucket, Milvus and the ledger at once. It loads the model and starts the parsers when there is
    something to parse. It holds no Prefect state, so it can be passed to tasks as it is.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, flow_run_id: str = "") -> None:
        """Connect. Raises ``PartError`` or ``TransientError`` naming the part that cannot be used."""
        self.pipeline = pipeline
        self.settings = settings
        self.flow_run_id = flow_run_id
        self.progress: Listener = listener.get()
        self.ledger = Database(pipeline.ledger)
        self.store = Store(pipeline.store, pipeline.alias)
        with s3_errors(pipeline.source):
            check_address(pipeline.source.endpoint_url, "S3", "AWS_ENDPOINT_URL")
            self.s3: S3Client = pipeline.source.get_client()
        self.consent = Consent()
        self.donor: str | None = None
        """Another generation that has the same vectors for the same texts."""
        self.check_writer: Callable[[], None] = lambda: None
        """Called before each write. Raises if another writer has taken over."""
        self._opening = threading.Lock()
        self._isolated: Isolated | None = None

    def work_as(self, pipeline: Pipeline) -> None:
        """Use this pipeline's settings and model from now on. Bucket, index and ledger stay as connected."""
        connected = {part: getattr(self.pipeline, part) for part in ("alias", "source", "store", "ledger")}
        self.pipeline = pipeline.model_copy(update=connected)
        self.settings = pipeline.settings

    def work_with(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self.work_as(self.pipeline.model_copy(update={"settings": settings}))

    @contextmanager
    def writing(self, what: str, described: str, wait_seconds: float) -> Iterator[Callable[[], None]]:
        """Hold a lease (:func:`tasks.ledger.lease.writing`). Each write first checks it and the leases held already."""
        before = self.check_writer
        with writing(self.ledger, what, described, wait_seconds, run_logger().info) as mine:

            def check() -> None:
                before()
                mine()

            self.check_writer = self.store.check_writer = check
            try:
                yield mine
            finally:
                self.check_writer = self.store.check_writer = before

    def __enter__(self) -> Resources:
        """Return the open connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the parsing processes and close the connections."""
        if self._isolated and _kept is None:
            self._isolated.__exit__(kind, error, trace)
        self.store.close()
        self.ledger.close()
        self.s3.close()

    @property
    def source(self) -> S3Source:
        """The bucket, without the objects that are never indexed."""
        return without_golden(self.pipeline.source, self.settings.golden)

    @property
    def isolated(self) -> Isolated:
        """The parsing processes, started with the first file."""
        with self._opening:
            if self._isolated is None:
                settings = self.settings
                limits = (settings.parse_processes, settings.parse_seconds, settings.parse_memory_mb)
                self._isolated = (_kept or {}).get(limits) or Isolated(*limits)
                if _kept is not None:
                    _kept[limits] = self._isolated
            return self._isolated

    @property
    def model(self) -> EmbeddingModel:
        """The embedding model, loaded on first use."""
        return load_model(self.pipeline.embedder)

    @cached_property
    def measure(self) -> Measure:
        """The cost limit of a chunk under this model and these settings, with the model's own counter."""
        counter = self.model.counter
        return Measure(counter, capacity_of(self.settings, counter, self.pipeline.embedder.document_prompt))


@task(task_run_name="connect", **RETRIED)
def connect(pipeline: Pipeline, flow_run_id: str, consent: Consent | None = None) -> Resources:
    """Connect to the bucket, Milvus and the ledger. Retries wait for a part that is restarting."""
    resources = Resources(pipeline, pipeline.settings, flow_run_id)
    resources.consent = consent or resources.consent
    return resources
