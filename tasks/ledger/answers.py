"""The audit records of the service: one row per answer, with the verdict of who asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from tasks.guards.personal_data import masked
from tasks.ledger.database import Database, now
from tasks.ledger.tables import ANSWERS
from tasks.models import Mode

Verdict = Literal["up", "down"]
ROWS_AT_ONCE = 500
UNANSWERED = sa.or_(ANSWERS.c.mode == "abstained", ANSWERS.c.verdict == "down")
"""Whether a record is of a gap: nothing answered the question, or somebody did not take the answer for one."""


@dataclass(frozen=True, slots=True)
class Record:
    """An answer of the service. ``question`` is None unless a setting keeps the text; ``at`` in ms since 1970.

    ``cited`` are the keys of the objects that verified citations name, each once.
    """

    id: str
    at: int
    pipeline: str
    tenant: str
    key_id: str
    route: str
    question_hash: str
    collection: str
    mode: Mode
    question: str | None = None
    chunk_ids: tuple[str, ...] = ()
    cached: bool = False
    claims: int = 0
    unverified: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cited: tuple[str, ...] = ()


def hash_of(question: str) -> str:
    """Return the hash of a question as it is compared: in lower case, with single spaces."""
    return hashlib.sha256(" ".join(question.lower().split()).encode("utf-8", "surrogatepass")).hexdigest()


def record_answers(ledger: Database, records: Sequence[Record]) -> None:
    """Insert records, with personal data in questions masked; one that is there already stays as it is."""
    rows = [
        {
            **asdict(one),
            "question": None if one.question is None else masked(one.question)[0],
            "chunk_ids": list(one.chunk_ids),
            "cited": list(one.cited),
        }
        for one in records
    ]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        with ledger.transaction() as connection:
            insert = ledger.insert(ANSWERS).on_conflict_do_nothing()
            connection.execute(insert, rows[start : start + ROWS_AT_ONCE])


def judge(ledger: Database, answer_id: str, key_id: str, verdict: Verdict, reason: str) -> bool:
    """Record the verdict on an answer that this key asked for; return whether there is one.

    Personal data in the reason is masked.
    """
    own = sa.and_(ANSWERS.c.id == answer_id, ANSWERS.c.key_id == key_id)
    reason = masked(reason)[0] if reason else ""
    with ledger.transaction() as connection:
        done = connection.execute(sa.update(ANSWERS).where(own).values(verdict=verdict, reason=reason, judged_at=now()))
    return done.rowcount == 1


def unanswered(ledger: Database, pipeline: str, since: int, limit: int = 1000) -> list[dict[str, Any]]:
    """Return the questions that abstained or got a thumb down since then, most often asked first."""
    asked = sa.func.count().label("asked")
    query = (
        sa.select(
            ANSWERS.c.question_hash,
            sa.func.max(ANSWERS.c.question).label("question"),
            asked,
            sa.func.max(ANSWERS.c.at).label("last_at"),
            sa.func.sum(sa.case((ANSWERS.c.mode == "abstained", 1), else_=0)).label("abstained"),
            sa.func.sum(sa.case((ANSWERS.c.verdict == "down", 1), else_=0)).label("down"),
            sa.func.max(ANSWERS.c.reason).label("reason"),
        )
        .where(ANSWERS.c.pipeline == pipeline, ANSWERS.c.at >= since, UNANSWERED)
        .group_by(ANSWERS.c.question_hash)
        .order_by(asked.desc(), sa.func.max(ANSWERS.c.at).desc())
        .limit(limit)
    )
    with ledger.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def list_answers(
    ledger: Database, pipeline: str, since: int = 0, limit: int | None = None, *, only_unanswered: bool = False
) -> list[dict[str, Any]]:
    """Return the records of a pipeline from a time in ms on, newest first, as rows by column.

    ``only_unanswered`` leaves those that abstained or got a thumb down.
    """
    wanted = [ANSWERS.c.pipeline == pipeline, ANSWERS.c.at >= since]
    if only_unanswered:
        wanted.append(UNANSWERED)
    query = sa.select(ANSWERS).where(*wanted).order_by(ANSWERS.c.at.desc(), ANSWERS.c.id).limit(limit)
    with ledger.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def day_of_answers(ledger: Database, pipeline: str, begin: int, end: int) -> list[dict[str, Any]]:
    """Return what the report of a day needs of the records from ``begin`` until before ``end``, in ms since 1970."""
    names = ("at", "mode", "cached", "claims", "unverified", "verdict", "collection", "seconds")
    query = sa.select(*(ANSWERS.c[name] for name in names)).where(
        ANSWERS.c.pipeline == pipeline, ANSWERS.c.at >= begin, ANSWERS.c.at < end
    )
    with ledger.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def recent_questions(ledger: Database, pipeline: str, limit: int) -> list[str]:
    """Return the newest questions whose text was kept, newest first, each once."""
    query = (
        sa.select(ANSWERS.c.question, sa.func.max(ANSWERS.c.at).label("last_at"))
        .where(ANSWERS.c.pipeline == pipeline, ANSWERS.c.question.is_not(None))
        .group_by(ANSWERS.c.question)
        .order_by(sa.desc("last_at"))
        .limit(limit)
    )
    with ledger.transaction() as connection:
        return [str(row.question) for row in connection.execute(query)]


def prune_answers(ledger: Database, before: int) -> int:
    """Delete the records that are older than a time in ms; return how many."""
    with ledger.transaction() as connection:
        return connection.execute(sa.delete(ANSWERS).where(ANSWERS.c.at < before)).rowcount
