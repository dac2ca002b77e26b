"""Keys of the service and its audit records, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from tasks.errors import MisuseError
from tasks.ledger.answers import (
    Record,
    hash_of,
    judge,
    prune_answers,
    recent_questions,
    record_answers,
    unanswered,
)
from tasks.ledger.database import Database, now
from tasks.ledger.keys import any_key, create_key, find_key, list_keys, revoke_key
from tasks.ledger.tables import KEYS


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Database]:
    with Database(LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5)) as ledger:
        yield ledger


def test_a_key_is_found_by_what_was_shown_once(ledger: Database) -> None:
    assert not any_key(ledger)
    key, text = create_key(ledger, "the chat page", "acme", ["docs"], ["ask", "search"])
    assert any_key(ledger)
    assert text.startswith(f"lsk_{key.id}_")
    found = find_key(ledger, text)
    assert found
    assert (found.id, found.name, found.tenant, found.pipelines) == (key.id, "the chat page", "acme", ("docs",))
    assert found.may("ask", "docs")
    assert not found.may("ask", "other")
    assert not found.may("admin")
    assert list_keys(ledger)[0].used_at


def test_the_secret_is_kept_nowhere(ledger: Database) -> None:
    _, text = create_key(ledger, "somebody")
    with ledger.transaction() as connection:
        row = connection.execute(sa.select(KEYS)).mappings().one()
    assert text.rsplit("_", 1)[-1] not in str(dict(row))
    assert text[13:] not in str(dict(row))


def test_what_is_no_key_finds_none(ledger: Database) -> None:
    key, text = create_key(ledger, "somebody")
    other = "a" if text[-1] != "a" else "b"
    for wrong in (
        "",
        "lsk_",
        text[:-1],
        text[:-1] + other,
        f"lsk_00000000_{text[13:]}",
        text + "a",
        text.upper(),
        "ä" * 60,
    ):
        assert find_key(ledger, wrong) is None
    revoke_key(ledger, key.id)
    assert find_key(ledger, text) is None
    assert revoke_key(ledger, key.id).revoked_at == list_keys(ledger)[0].revoked_at
    with pytest.raises(MisuseError, match="keys list"):
        revoke_key(ledger, "nobody")


def test_a_key_ends_when_it_was_said_to(ledger: Database) -> None:
    key, text = create_key(ledger, "a visitor", expires_at=now() + 60_000)
    assert find_key(ledger, text)
    with ledger.transaction() as connection:
        connection.execute(sa.update(KEYS).where(KEYS.c.id == key.id).values(expires_at=now() - 1))
    assert find_key(ledger, text) is None


@pytest.mark.parametrize(
    "given", [{"name": " "}, {"name": "x" * 256}, {"name": "x", "rights": ["root"]}, {"name": "x", "expires_at": 1}]
)
def test_what_would_be_no_use_is_refused(ledger: Database, given: dict) -> None:
    with pytest.raises(MisuseError):
        create_key(ledger, **given)
    assert not any_key(ledger)


def record(number: int, question: str | None, mode: str = "generated", key: str = "k1", at: int = 0) -> Record:
    asked = question or "unknown"
    return Record(
        f"a{number}", at or now(), "docs", "", key, "/ask", hash_of(asked), "docs_g0001", mode, question,  # type: ignore[arg-type]
        ("c1", "c2"), claims=2, unverified=1, tokens={"prompt": 3}, seconds={"total": 0.5},
    )  # fmt: skip


def test_what_people_ask_and_the_documents_do_not_hold_is_listed(ledger: Database) -> None:
    record_answers(ledger, [
        record(1, "Where is the moon base?", "abstained"), record(2, "where is  the Moon base?", "abstained"),
        record(3, "How is it cleaned?"), record(4, "What is good?"),
    ])  # fmt: skip
    record_answers(ledger, [record(4, "What is good?", "abstained")])  # told twice, kept once
    assert judge(ledger, "a3", "k1", "down", "it is about another pump")
    assert not judge(ledger, "a3", "k2", "up", "somebody else's answer")
    assert not judge(ledger, "nobody", "k1", "up", "")
    gaps = unanswered(ledger, "docs", 0)
    assert [(row["asked"], row["abstained"], row["down"]) for row in gaps] == [(2, 2, 0), (1, 0, 1)]
    assert gaps[1]["reason"] == "it is about another pump"
    assert unanswered(ledger, "other", 0) == []
    assert unanswered(ledger, "docs", now() + 1000) == []


def test_records_are_pruned_by_age_and_say_what_was_asked_last(ledger: Database) -> None:
    record_answers(ledger, [record(1, "old", at=1000), record(2, "new"), record(3, None), record(4, "new")])
    assert recent_questions(ledger, "docs", 10) == ["new", "old"]
    assert prune_answers(ledger, 2000) == 1
    assert recent_questions(ledger, "docs", 10) == ["new"]
