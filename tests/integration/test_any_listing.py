"""Whatever order a server lists in, the plan is that of a dictionary: work, deletions and loss, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from tasks.errors import DeletionError
from tasks.indexing.plan import make_plan
from tasks.ledger.database import Database
from tasks.ledger.missing_keys import MISSING
from tasks.ledger.objects import ObjectRow
from tasks.ledger.tables import OBJECTS
from tasks.models import WRITTEN, Loss, ObjectRef

ON, OTHER = "docs_g0001", "docs_g0002"
Rows = dict[str, ObjectRow]
Pages = list[list[ObjectRef]]

# In UTF-16 the last but one would come before the one before it, and without regard to case "B" after "a".
KEYS = ["B", "a", "a ", "a/b", "b", "e\u0301", "é", "\ufffd", "\U0001f600", "\U0001f600a"]
ETAGS = ["e1", "e2", f"{WRITTEN}1"]
SOME_KEYS, SOME_ETAGS, SIZES = st.sampled_from(KEYS), st.sampled_from(ETAGS), st.sampled_from([1, 2])
ROWS = st.builds(
    ObjectRow,
    st.sampled_from(["pending", "indexed", "quarantined", "deleting", "returned"]),
    st.sampled_from([*ETAGS, ""]),
    SIZES,
    st.none() | SOME_ETAGS,
    asked_at=st.none(),
)
REFS = st.builds(ObjectRef, SOME_KEYS, SOME_ETAGS, SIZES, st.just(5))
UNSORTED = st.lists(REFS, max_size=14)
SORTED = st.lists(REFS, max_size=9, unique_by=lambda ref: ref.key).map(
    lambda refs: sorted(refs, key=lambda ref: ref.key.encode())
)


@st.composite
def listings(draw: st.DrawFn) -> Pages:
    """A listing in some order, in pages of any size."""
    refs = draw(SORTED | UNSORTED)
    cuts = sorted(draw(st.lists(st.integers(0, len(refs)), max_size=4)))
    return [refs[start:end] for start, end in zip([0, *cuts], [*cuts, len(refs)], strict=True)]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Database]:
    ledger = Database(LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5))
    yield ledger
    ledger.engine.dispose()


def fill(ledger: Database, rows: Rows) -> None:
    """Make these the rows of both generations."""
    others: dict[str, Any] = {"last_modified": 1, "chunks": 0, "attempts": 0, "updated_at": 1, "flow_run_id": "before"}
    with ledger.transaction() as connection:
        connection.execute(sa.delete(OBJECTS))
        for collection in (ON, OTHER) if rows else ():
            connection.execute(
                sa.insert(OBJECTS),
                [{"collection": collection, "key": key, **row._asdict(), **others} for key, row in rows.items()],
            )


def rows_of(ledger: Database, collection: str) -> Rows:
    columns = [OBJECTS.c[name] for name in ("key", *ObjectRow._fields)]
    with ledger.transaction() as connection:
        found = connection.execute(sa.select(*columns).where(OBJECTS.c.collection == collection))
        return {key: ObjectRow(*row)._replace(asked_at=None) for key, *row in found}


def expected_action(listed: ObjectRef, row: ObjectRow | None) -> str:
    settled = row is not None and row.state in ("indexed", "quarantined")
    if row and settled and row.etag == listed.etag and row.size == listed.size:
        return "unchanged"
    return "changed" if settled or (row and row.indexed_etag) else "new"


def expected(before: Rows, pages: Pages) -> tuple[Counter[str], Rows, Loss, set[str]]:
    """Return the numbers, the rows, the loss and the deletions of a plan."""
    rows, counts, listed = dict(before), Counter[str](), dict[str, tuple[str, int]]()
    for page in pages:
        known = dict(rows)
        actions = [expected_action(ref, known.get(ref.key)) for ref in page]
        counts.update(actions)
        todo = {ref.key for ref, action in zip(page, actions, strict=True) if action != "unchanged"}
        for ref in page:
            listed[ref.key] = (ref.etag, ref.size)
            if ref.key in todo:
                row = known.get(ref.key)
                state = "returned" if row and row.state in ("deleting", "returned") else "pending"
                rows[ref.key] = ObjectRow(state, ref.etag, ref.size, row.indexed_etag if row else None)
    gone = rows.keys() - listed.keys()
    answers = {
        key
        for key, row in rows.items()
        if row.state not in ("deleting", "returned") and (row.indexed_etag is not None or row.etag == "")
    }
    lost = sorted(answers & gone, key=lambda key: (rows[key].indexed_etag in {e for e, _ in listed.values()}, key))
    there = Counter(listed.values())
    left = Counter((rows[key].indexed_etag, rows[key].size) for key in lost)
    moved = sum(min(n, there[v]) for v, n in left.items() if v[0] and not v[0].startswith(WRITTEN))  # type: ignore[index]
    number = len(lost) - moved
    return counts, rows, Loss(len(answers), number, len(listed), tuple(lost[:number])), set(gone)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(SOME_KEYS, ROWS), listings(), st.sampled_from([1, 2, 10_000]), st.booleans())
def test_a_plan_of_any_listing(ledger: Database, before: Rows, pages: Pages, piece: int, agreed: bool) -> None:
    fill(ledger, before)
    counts, rows, loss, gone = expected(before, pages)
    told: list[Loss] = []

    def agree(loss: Loss) -> None:
        told.append(loss)
        assert rows_of(ledger, ON) == rows, "nothing is recorded for deletion before that"
        if not agreed:
            raise DeletionError("no", loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.ledger.missing_keys.KEYS_AT_ONCE", piece)
        try:
            plan = make_plan(pages, ledger, ON, "run", agree=agree)
        except DeletionError:
            assert not agreed
        else:
            numbers = (plan.new, plan.changed, plan.unchanged, plan.deleted)
            assert numbers == (counts["new"], counts["changed"], counts["unchanged"], len(gone))
            rows |= {key: rows[key]._replace(state="deleting") for key in gone}
    assert told == [loss]
    assert rows_of(ledger, ON) == rows
    assert rows_of(ledger, OTHER) == before


def test_a_sorted_listing_keeps_the_missing_keys_alone(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table grows with what is gone, not with the bucket."""
    fill(ledger, {f"{number:03}": ObjectRow("indexed", "e1", 1, "e1") for number in range(300)})
    refs = [ObjectRef(f"{number:03}", "e1", 1, 5) for number in range(290) if number % 100]
    inserted: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lower().startswith(f"insert into {MISSING.name} ") and "select" not in statement.lower():
            inserted.extend(
                one["key"] if isinstance(one, dict) else one[0] for one in (parameters if many else [parameters])
            )

    sa.event.listen(ledger.engine, "before_cursor_execute", note)
    assert make_plan([refs[:150], refs[150:]], ledger, ON, "run").deleted == 13
    assert [key for key in inserted if key] == ["000", "100", "200"]


def test_keys_are_compared_letter_by_letter(ledger: Database) -> None:
    fill(ledger, {"a.md": ObjectRow("indexed", "e1", 1, "e1")})
    listed = [ObjectRef(key, "e1", 1, 5) for key in ("A.md", "a.md", "a.md ", "e\u0301", "é")]
    plan = make_plan([listed], ledger, ON, "run")
    assert (plan.new, plan.unchanged) == (4, 1)


def test_of_a_key_that_a_page_has_twice_the_last_version_counts(ledger: Database) -> None:
    fill(ledger, {"a.md": ObjectRow("indexed", "e1", 1, "e1")})
    twice = [ObjectRef("a.md", "e2", 1, 5), ObjectRef("a.md", "e1", 1, 5)]
    make_plan([twice], ledger, ON, "run")
    assert rows_of(ledger, ON) == {"a.md": ObjectRow("pending", "e1", 1, "e1")}
