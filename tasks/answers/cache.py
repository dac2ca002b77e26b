"""The answer cache: the same question to the same index needs no second call of the chat model.

The key is made of everything that the answer follows from: question, settings, chat model, generation, the passages
found and the state of the ledger. So any change of the index, and any other setting, leads to another key; nobody has
to throw anything away for an answer to be right. Kept in Prefect's result storage, as
plain JSON and not as Prefect's records: those say themselves how they are to be read, by unpickling for one, so whoever
may write there could run code here.
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
"""Raised when answers are checked or kept in another way: what was kept before is not found any more."""

ASKED_FOR_SECONDS = 2.0
KNOWN_FOR_SECONDS = 600.0
_storages: dict[tuple[str, str, str], tuple[WritableFileSystem, float]] = {}
"""Where results are kept by what Prefect's settings say of it, and until when that is known."""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A chat model's checked answer; ``whole`` if it may be cached for later questions."""

    text: str
    mode: Mode
    claims: tuple[Claim, ...] = ()
    citations: tuple[Citation, ...] = ()
    tokens: dict[str, int] | None = None
    notes: tuple[str, ...] = ()
    whole: bool = True


_FORM: TypeAdapter[CachedAnswer] = TypeAdapter(CachedAnswer)


def key_of(question: str, settings: Settings, chat: ChatModel, found: Retrieved, state: str) -> str:
    """Return the cache key of an answer; ``state`` is the ledger's change mark."""
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
    """The cached answer of one question. A failure of its storage never costs an answer."""

    def __init__(self, key: str, seconds: float) -> None:
        self._key, self._seconds = f"{FOLDER}/{key}", seconds

    def read(self) -> CachedAnswer | None:
        """Return the cached answer, unless it has expired."""
        with suppress(Exception):  # a missing file, an unreachable storage, another version's record: no answer kept
            storage: Any = _storage()
            record = json.loads(storage.read_path(self._key, _sync=True))
            if datetime.fromisoformat(record["until"]) > datetime.now(UTC):
                return _FORM.validate_python({**record["answer"], "whole": True})
        return None

    def write(self, written: CachedAnswer) -> None:
        """Cache an answer for as long as the settings say; delete expired ones."""
        with suppress(Exception):  # an answer that cannot be kept is an answer all the same
            storage: Any = _storage()
            until = datetime.now(UTC) + timedelta(seconds=self._seconds)
            record = {"until": until.isoformat(), "answer": _FORM.dump_python(written, mode="json")}
            storage.write_path(self._key, content=json.dumps(record).encode(), _sync=True)
            sweep(getattr(storage, "basepath", None), self._seconds)


def sweep(base: str | None, seconds: float) -> None:
    """Delete answers kept in a local folder for longer than ``seconds``, and at least a day."""
    if base is None:
        return
    until = time.time() - max(seconds, 86_400.0)
    for file in (Path(base) / FOLDER).iterdir():
        if file.stat().st_mtime < until:
            file.unlink(missing_ok=True)


def kept(
    pipeline: Pipeline, question: str, settings: Settings, found: Retrieved, ledger: LedgerOrWhy
) -> AnswerCache | None:
    """Return the cache entry of a question; None if caching is off or the ledger does not answer."""
    if pipeline.chat_model is None or not settings.cache_seconds or isinstance(ledger, LockstepError):
        return None
    try:
        state = change_mark(ledger, found.collection)
    except LockstepError:
        return None
    return AnswerCache(key_of(question, settings, pipeline.chat_model, found, state), settings.cache_seconds)


def _storage() -> WritableFileSystem:
    """Return where Prefect keeps results.

    Its API may name a place, and is asked once in ten minutes, not with each question, and once, not with the minutes
    of patience that a flow has: while it is away, answers are kept where this machine keeps results.
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
