"""Which keys count, and what is kept of an entry of a listing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tasks.bucket.listing import selected, to_ref
from tasks.models import ObjectRef


@pytest.mark.parametrize(
    ("key", "include", "exclude", "expected"),
    [
        ("a.md", [], [], True),
        ("folder/", [], [], False),
        ("folder/", ["*"], [], False),
        ("folder/a.md", ["*.md"], [], True),
        ("folder/a.MD", ["*.md"], [], False),
        ("folder/a.txt", ["*.md"], [], False),
        ("folder/a.txt", ["*.md", "*.txt"], [], True),
        ("guides/a.md", ["guides/*.md"], [], True),
        ("other/guides/a.md", ["guides/*.md"], [], False),
        ("a.md", [], ["*.md"], False),
        ("drafts/a.md", ["*.md"], ["drafts/*"], False),
        ("a.md", ["*.md"], ["drafts/*"], True),
        ("a [1].md", ["a ?1?.md"], [], True),
        ("größe #1%.md", ["größe*"], [], True),
    ],
)
def test_a_key_counts(key: str, include: list[str], exclude: list[str], expected: bool) -> None:
    assert selected(key, include, exclude) is expected


@pytest.mark.parametrize("etag", ['"abc-2"', "abc-2"])
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_an_entry_of_a_listing(etag: str, zone: timezone) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC).astimezone(zone)
    entry = {"Key": "a b/ü#%.md", "ETag": etag, "Size": 7, "LastModified": moment, "StorageClass": "STANDARD"}
    assert to_ref(entry) == ObjectRef("a b/ü#%.md", "abc-2", 7, 1_767_323_045_250)
