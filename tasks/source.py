"""Which bucket a generation holds, and which ledger keeps it: written with the collection and in the ledger.

Both are asked before anything is read from a generation or written to it, so that a pipeline with another bucket, or
another home with a ledger of its own, neither empties it nor answers from it. An empty ledger, as after a loss, takes
over a generation of the same bucket; the ledger that kept it before is refused from then on.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.between import between
from tasks.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks.pipeline import Pipeline
    from blocks.s3_source import S3Source
    from tasks.tools import Tools

USUAL_PORTS = {"http": 80, "https": 443}
_AWS = re.compile(r"s3(?:[.-][a-z0-9.-]*)?\.amazonaws\.com(?:\.cn)?")
EMBEDDED = "the S3 server of home"
REMEMBERED = 20
"""Records that a ledger replaced and goes on to know: Milvus 2.3 shows the first one again after each restart."""
YES = (
    "If this is meant (it was moved or renamed, or has another address), say so once: `--accept-source`, or the "
    "flow's parameter accept_source."
)


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket's server, name and prefix; ``ledger`` is the mark of the ledger that keeps the generation."""

    server: str
    bucket: str
    prefix: str
    ledger: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """What makes it another source."""
        return self.server, self.bucket, self.prefix

    def __str__(self) -> str:
        """Return it in words."""
        prefix = f", prefix '{self.prefix}'" if self.prefix else ""
        return f"bucket '{self.bucket}' at {self.server}{prefix}"


def server(endpoint: str | None) -> str:
    """Return what tells one S3 server from another: host and port, as they are written by whomever; AWS is one."""
    if not endpoint:
        return "AWS"
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").rstrip(".")
    if _AWS.fullmatch(host):
        return "AWS"
    if host in ("127.0.0.1", "::1"):
        host = "localhost"
    port = parts.port if parts.port not in (None, USUAL_PORTS.get(parts.scheme)) else None
    return f"{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def source_of(block: S3Source, ledger: str = "") -> Source:
    """Return which bucket a pipeline reads."""
    named = block.server if still_named(block) else ""
    return Source(named or server(block.endpoint_url), block.bucket, block.prefix, ledger)


def embedded_server(access_key: str) -> str:
    """Return what the S3 server of a home is called: its port may change, its keys were made up once."""
    return f"{EMBEDDED} {hashlib.sha256(access_key.encode()).hexdigest()[:12]}"


def still_named(block: S3Source) -> bool:
    """Tell whether name and folder of a server are those of the address: somebody may have set another one since."""
    if not block.server.startswith(EMBEDDED):
        return True
    key = getattr(block.credentials, "aws_access_key_id", None) or ""
    return server(block.endpoint_url).startswith("localhost") and block.server == embedded_server(key)


def from_row(row: Mapping[str, Any] | None) -> Source | None:
    """Return a source as collection or ledger have it, None when they have none."""
    return Source(**{name: str(row.get(name, "")) for name in Source.__slots__}) if row else None


@dataclass(frozen=True, slots=True)
class Claim:
    """What ledger and collection are to say of a generation; ``before`` are records of its collection that are over."""

    source: Source
    before: tuple[Source, ...]

    def as_row(self) -> dict[str, Any]:
        """Return it as the ledger keeps it."""
        return {**asdict(self.source), "before": [asdict(one) for one in self.before]}


def judge(collection: str, mine: Source, known: Mapping[str, Any] | None, kept: Source | None, accepted: bool) -> Claim:
    """Return this run's claim to a generation, of which the ledger knows ``known`` and the collection has ``kept``.

    Raises ``SourceError`` when either has another bucket, or the collection another ledger, unless that is accepted.
    """
    before = tuple(filter(None, (from_row(one) for one in (known or {}).get("before", []))))
    recorded = from_row(known)
    current = None if kept in before else kept
    others = [one for one in (recorded, current) if one and one.place != mine.place]
    another = recorded is not None and current is not None and current.ledger != recorded.ledger
    if others and not accepted:
        raise SourceError(f"{collection} holds {others[0]}; this pipeline reads {mine}. Nothing was changed. {YES}")
    if another and not accepted:
        raise SourceError(
            f"{collection} is kept by another ledger since this one wrote to it: two would undo each other's work. "
            "Nothing was changed. Use one LEDGER_URL for both, or another COLLECTION_NAME. If this is the ledger to go "
            "on with, say so once: `--accept-source`, or the flow's parameter accept_source."
        )
    mark = recorded.ledger if recorded and not others and not another else uuid.uuid4().hex[:16]
    claimed = Source(*mine.place, mark)
    replaced = (current,) if current and current != claimed else ()
    return Claim(claimed, (*before, *replaced)[-REMEMBERED:])


def check_source(tools: Tools, collection: str) -> Claim:
    """Return what is to be said of a generation. Raises ``SourceError`` when it is not this pipeline's.

    One that this ledger began and that holds nothing yet is anybody's: the first bucket may have been mistyped.
    """
    kept = tools.store.source_of(collection) if tools.store.exists(collection) else None
    known = tools.ledger.source(collection)
    recorded = from_row(known)
    own = recorded is not None and (kept is None or kept.ledger == recorded.ledger)
    empty = own and set(tools.ledger.totals(collection)) == {"chunks"}
    accepted = empty or tools.consent.accept_source
    return judge(collection, source_of(tools.pipeline.source), known, kept, accepted)


def may_go_on(tools: Tools, collection: str) -> bool:
    """Tell whether a generation that was begun is of this pipeline's bucket, or is meant to become it."""
    try:
        check_source(tools, collection)
    except SourceError:
        return False
    return True


def check_keeper(tools: Tools, collection: str) -> None:
    """Raise ``SourceError`` when another ledger keeps a generation, whichever bucket it holds."""
    kept, recorded = tools.store.source_of(collection), from_row(tools.ledger.source(collection))
    if kept and recorded and kept.ledger != recorded.ledger:
        raise SourceError(
            f"{collection} is kept by another ledger since this one wrote to it, so it was not dropped. "
            "Use one LEDGER_URL for both, or another COLLECTION_NAME."
        )


def keep_source(tools: Tools, collection: str) -> None:
    """Write down whose a generation is, where that is not yet said, once its plan was agreed to.

    In the ledger first, which then knows what it replaces in the collection. Raises ``SourceError`` when it is not this
    pipeline's.
    """
    claim = check_source(tools, collection)
    if tools.ledger.source(collection) != claim.as_row():
        tools.ledger.record_source(collection, claim.as_row())
        between("source recorded")
    if tools.store.source_of(collection) != claim.source:
        tools.store.keep_source(collection, claim.source)


def check_asked(
    pipeline: Pipeline, collection: str, kept: Source | None, known: Mapping[str, Mapping[str, Any] | None] | None
) -> None:
    """Raise ``SourceError`` when a question would be answered from a generation that another ledger keeps.

    ``known`` is what the pipeline's ledger has of each of its generations, None while it does not answer. One that it
    does not know must hold the pipeline's bucket: the ledger was lost. One that it knows may hold another one than the
    pipeline, which is about to be moved.
    """
    if kept is None or known is None:
        return
    row = known.get(collection)
    recorded = from_row(row)
    if recorded is None:
        foreign = kept.place != source_of(pipeline.source).place
    else:
        foreign = kept.ledger != recorded.ledger and asdict(kept) not in (row or {}).get("before", [])
    if foreign:
        raise SourceError(
            f"'{pipeline.alias}' points at {collection}, which holds {kept} and is kept by another ledger: questions "
            "to this pipeline are not answered from it. Use that one's LEDGER_URL, or another COLLECTION_NAME."
        )
