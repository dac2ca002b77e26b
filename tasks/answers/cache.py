"""Cache the chat model's answers, so that the same question to the same index needs no second call.

The key is a hash of everything that decides the answer: question, settings, chat model, generation, the passages
found and the state of the ledger. Any change of the index or of a setting leads to another key, so the cache needs no
invalidation. Answers are stored in Prefect's result storage as plain JSON, not as Prefect's records. A record chooses
its own deserializer, pickle for example, so write access to the storage would be enough to run code here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tasks.answers.prompt import FORMATS
from tasks.errors import LockstepError
from tasks.ledger.objects import change_mark
from tasks.models import Citation, Claim, Mode

if TYPE_CHECKING:
    from prefect.filesystems import WritableFileSystem

    from blocks.chat_model import ChatModel
    from blocks.pipeline import Pipeline
    from blocks.settings import Settings
    from tasks.retrieval.retrieve import Retrieved
    from tasks.retrieval.routing import LedgerOrWhy

FOLDER = "lockstep-answers"
VERSION = 2
"""Increased when answers are checked or stored in another way. Answers of earlier versions are then not found."""

ASKED_FOR_SECONDS = 2.0
KNOWN_FOR_SECONDS = 600.0
_storages: dict[tuple[str, str, str], tuple[WritableFileSystem, float]] = {}
"""Prefect's result storage by Prefect's settings, and the monotonic time at which to ask for it again."""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A checked answer. Only a ``whole`` answer is cached: it was not cut off."""

    text: str
    mode: Mode
    claims: tuple[Claim, ...] = ()
    citations: tuple[Citation, ...] = ()
    tokens: dict[str, int] | None = None
    notes: tuple[str, ...] = ()
    whole: bool = True


_FORM: TypeAdapter[CachedAnswer] = TypeAdapter(CachedAnswer)


def key_of(question: str, settings: Settings, chat: ChatModel, found: Retrieved, state: str) -> str:
    """Return the cache key of an answer. ``state`` is the ledger's mark of the last change."""
    parts: Sequence[Any] = (
        VERSION,
        FORMATS,
        question,
        settings.model_dump(mode="json"),
        (chat.base_url, chat.model),
        found.collection,
        [(hit.chunk_id, hit.text, hit.key, hit.etag, hit.heading, hit.page, hit.outdated) for hit in found.hits],
        state,
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """The cache entry of one question. Errors of the storage are ignored: they must not cost an answer."""

    def __init__(self, key: str, seconds: float) -> None:
        self._key, self._seconds = f"{FOLDER}/{key}", seconds

    def read(self) -> CachedAnswer | None:
        """Return the cached answer, or None if there is none or it has expired."""
        with suppress(Exception):  # a missing file, an unreachable storage, another version's record: a cache miss
            storage: Any = _storage()
            record = json.loads(storage.read_path(self._key, _sync=True))
            if datetime.fromisoformat(record["until"]) > datetime.now(UTC):
                return _FORM.validate_python({**record["answer"], "whole": True})
        return None

    def write(self, written: CachedAnswer) -> None:
        """Cache an answer until the settings' time is over, and delete expired answers."""
        with suppress(Exception):  # an answer that cannot be cached is still an answer
            storage: Any = _storage()
            until = datetime.now(UTC) + timedelta(seconds=self._seconds)
            record = {"until": until.isoformat(), "answer": _FORM.dump_python(written, mode="json")}
            storage.write_path(self._key, content=json.dumps(record).encode(), _sync=True)
            sweep(getattr(storage, "basepath", None), self._seconds)


def sweep(base: str | None, seconds: float) -> None:
    """Delete answers from a local folder that are older than ``seconds`` and older than a day."""
    if base is None:
        return
    until = time.time() - max(seconds, 86_400.0)
    for file in (Path(base) / FOLDER).iterdir():
        if file.stat().st_mtime < until:
            file.unlink(missing_ok=True)


def kept(
    pipeline: Pipeline, question: str, settings: Settings, found: Retrieved, ledger: LedgerOrWhy
) -> AnswerCache | None:
    """Return the cache entry of a question; None if the cache is off or the ledger is down."""
    if pipeline.chat_model is None or not settings.cache_seconds or isinstance(ledger, LockstepError):
        return None
    try:
        state = change_mark(ledger, found.collection)
    except LockstepError:
        return None
    return AnswerCache(key_of(question, settings, pipeline.chat_model, found, state), settings.cache_seconds)


def _storage() -> WritableFileSystem:
    """Return Prefect's result storage.

    Prefect's API may name one. Lockstep asks it once in ten minutes, not with each question, and does not retry as a
    flow does. While the API is down, answers are kept in this machine's result storage.
    """
    from prefect.results import get_default_result_storage
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_CLIENT_MAX_RETRIES,
        get_current_settings,
        temporary_settings,
    )

    settings = get_current_settings()
    told = (
        str(settings.api.url),
        str(settings.results.default_storage_block),
        str(settings.results.local_storage_path),
    )
    known = _storages.get(told)
    if known and time.monotonic() < known[1]:
        return known[0]
    resolve: Any = get_default_result_storage
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ASKED_FOR_SECONDS}):
        storage: WritableFileSystem = resolve(_sync=True)
    _storages[told] = storage, time.monotonic() + KNOWN_FOR_SECONDS
    return storage
