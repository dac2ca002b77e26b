"""Translate the errors of pymilvus, in one place, with the cause kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocks.pymilvus_import import load_pymilvus
from tasks.errors import ContentError, GoneError, LockstepError, PartError, TransientError

if TYPE_CHECKING:
    from blocks.milvus_store import MilvusStore

DENIED = re.compile(
    r"\b(?:auth check|(?:un)?auth(?:enticat|oriz)\w*|permission (?:deny|denied)|privilege\w*|api key|password|"
    r"(?:invalid|expired|missing|wrong) token|token (?:is )?(?:invalid|expired|missing|wrong))\b"
)
NAMES = re.compile(r"\[[^\[\]]*\]|\"[^\"]*\"|'[^']*'")
"""Text in brackets or quotes is a name or a key, not a cause."""
PASSING = (
    "unavailable", "connect", "timeout", "timed out", "deadline", "rate limit", "delegator", "not ready", "retry",
    "try again", "node not", "channel", "recovering", "closed", "shut", "reset", "busy", "not loaded", "released",
    "call load", "file is too small", "not an arrow file", "not fully written",
)  # fmt: skip
CONTENT = re.compile(r"\blength\b.* exceeds max[_ ]length|is not a number or infinity|surrogates not allowed")
"""The messages of Milvus, Milvus Lite and pymilvus about a row that they cannot store."""
GONE = re.compile(r"can't find collection|collection\s+(?:not found|not exist|does not exist)")


def explain(error: Exception, store: MilvusStore) -> LockstepError:
    """Return our error for an error of pymilvus or gRPC.

    The message decides, not the code. Milvus' codes differ between versions, and many transient errors share a code
    with permanent ones.
    """
    words = NAMES.sub("", str(error).lower())
    first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    if DENIED.search(words):
        return PartError(f"Milvus: {store.uri} refused access ({first}). Check MILVUS_TOKEN and MILVUS_DB.")
    if GONE.search(words):
        return GoneError(f"Milvus: the collection at {store.uri} was dropped meanwhile ({first}). Ask again.")
    if any(word in words for word in PASSING):
        return TransientError(
            f"Milvus: {store.uri} does not answer ({first}). Is the server up, and is MILVUS_URI right?"
        )
    kind = ContentError if CONTENT.search(words) else PartError
    return kind(f"Milvus: {store.uri} refused the call: {first}")


@contextmanager
def milvus_errors(store: MilvusStore) -> Iterator[None]:
    """Translate pymilvus' errors to ours."""
    import grpc

    pymilvus = load_pymilvus()
    try:
        yield
    except (pymilvus.MilvusException, grpc.RpcError, grpc.FutureTimeoutError, ConnectionError) as error:
        raise explain(error, store) from error
