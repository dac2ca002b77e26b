"""Which keys count, and what is kept of an entry of a listing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from botocore.utils import parse_timestamp

from blocks.s3_source import parse_time
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


@pytest.mark.parametrize(
    "said",
    [
        "2026-01-02T03:04:05.250Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789Z",
        "2026-01-02T03:04:05+02:00",
        "2026-01-02T03:04:05", "2026-01-02", "20260102", "Fri, 02 Jan 2026 03:04:05 GMT", "1767323045", 1767323045,
        1767323045.25,
    ],
)  # fmt: skip
def test_a_time_is_read_as_botocore_reads_it(said: str | float) -> None:
    assert parse_time(said).timestamp() == parse_timestamp(said).timestamp()


def test_what_is_no_time_is_refused_as_botocore_refuses_it() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_time("yesterday")
