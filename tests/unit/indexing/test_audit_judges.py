"""What an audit says of one key, given what bucket, ledger and Milvus have of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.indexing.audit import Held, Known, compare_key
from tasks.ledger.database import digest

HELD = (Held("i1", "e1", 0), Held("i2", "e1", 1))
KNOWN = Known("indexed", "e1", "e1", 2, digest(["i1", "i2"]))
FAILED = replace(KNOWN, state="quarantined", etag="e2")
NEVER = Known("quarantined", "e1", None, 0, None)


@pytest.mark.parametrize(
    ("etag", "known", "held"),
    [
        ("e1", KNOWN, HELD),
        ("e1", KNOWN, HELD[::-1]),
        ("e1", replace(KNOWN, digest=None), HELD),
        ("e1", replace(KNOWN, chunks=0, digest=digest([])), ()),
        ("e2", FAILED, HELD),  # an older version answers, and the ledger says so
        ("e1", NEVER, ()),
        (None, None, ()),
    ],
)
def test_what_is_as_it_should_be(etag: str | None, known: Known | None, held: tuple[Held, ...]) -> None:
    assert compare_key(etag, known, held) is None


@pytest.mark.parametrize(
    ("etag", "known", "held", "kind"),
    [
        (None, None, HELD, "orphaned"),
        (None, KNOWN, HELD, "orphaned"),
        (None, KNOWN, (), "orphaned"),
        ("e1", None, HELD, "orphaned"),
        ("e1", None, (), "missing"),
        # A deletion that is recorded is done, whatever has come back meanwhile.
        ("e1", replace(KNOWN, state="deleting"), HELD, "stale"),
        ("e1", replace(KNOWN, state="returned"), HELD, "stale"),
        ("e1", replace(KNOWN, state="deleting"), (), "missing"),
        ("e1", replace(KNOWN, state="returned"), (), "missing"),
        ("e2", KNOWN, HELD, "stale"),
        ("e2", KNOWN, (), "missing"),
        ("e1", replace(KNOWN, state="pending"), HELD, "stale"),
        ("e3", FAILED, HELD, "stale"),
        ("e1", KNOWN, (HELD[0], replace(HELD[1], etag="e0")), "stale"),
        ("e1", KNOWN, HELD[:1], "missing"),
        ("e1", KNOWN, (), "missing"),
        ("e1", KNOWN, (*HELD, replace(HELD[0], id="i3")), "duplicated"),
        ("e1", KNOWN, (HELD[0], HELD[0]), "duplicated"),
        ("e1", KNOWN, (*HELD, Held("i3", "e1", 2)), "orphaned"),
        ("e1", KNOWN, (HELD[0], Held("i3", "e1", 1)), "orphaned"),
        ("e1", NEVER, HELD, "orphaned"),
    ],
)
def test_what_is_wrong_is_named(etag: str | None, known: Known | None, held: tuple[Held, ...], kind: str) -> None:
    found = compare_key(etag, known, held)
    assert found
    assert found[0] == kind
