"""Which bucket a generation holds, which ledger keeps it, and who is refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from prefect_aws import AwsCredentials

from blocks.s3_source import S3Source
from tasks.bucket.identity import Source, embedded_server, server, source_of, still_named
from tasks.errors import SourceError
from tasks.generations.claims import Claim, claim_of

MINE = Source("s3.example.org", "handbooks", "guides/")
HELD = replace(MINE, ledger="mine")
THEIRS = replace(MINE, ledger="theirs")
OTHER = Source("s3.example.org", "handbooks", "gudies/", "mine")


def row(source: Source, *before: Source) -> dict[str, Any]:
    return Claim(source, before).as_row()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://s3.example.org", "http://S3.Example.org:80/"),
        ("https://s3.example.org:443", "https://user:secret@s3.example.org"),
        ("http://127.0.0.1:9000", "http://localhost:9000/"),
        (None, "https://s3.eu-central-1.amazonaws.com"),
        ("https://s3.amazonaws.com", None),
    ],
)
def test_one_server_written_in_two_ways_is_one(one: str | None, other: str | None) -> None:
    assert server(one) == server(other)
    assert "secret" not in server(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://s3.example.org", "https://s3.example.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001"),
        ("http://gateway/a", "http://gateway/b"),
        (None, "https://s3.example.org"),
        (None, "https://s3.amazonaws.com.example.org"),
    ],
)
def test_two_servers_are_two(one: str | None, other: str | None) -> None:
    assert server(one) != server(other)


def test_a_server_that_is_named_is_the_same_at_any_address() -> None:
    named = [S3Source(bucket="b", endpoint_url=f"http://127.0.0.1:{port}", server="home") for port in (9000, 9001)]
    assert source_of(named[0]) == source_of(named[1])


@pytest.mark.parametrize(
    ("url", "key", "same"),
    [
        ("http://127.0.0.1:9001", "made-up", True),
        ("http://localhost:9001", "made-up", True),
        ("http://127.0.0.1:9001", "of another server", False),
        ("https://s3.example.org", "made-up", False),
        (None, "made-up", False),
    ],
)
def test_an_embedded_server_keeps_its_name_and_folder_as_long_as_it_is_that(
    url: str | None, key: str, same: bool, tmp_path: Path
) -> None:
    """Who sets another address in the Prefect UI leaves name and folder as they stand."""
    embedded = S3Source(
        bucket="b", endpoint_url="http://127.0.0.1:9000", server=embedded_server("made-up"),
        folder=str(tmp_path / "gone"),
        credentials=AwsCredentials(aws_access_key_id="made-up"),
    )  # fmt: skip
    edited = embedded.model_copy(update={"endpoint_url": url, "credentials": AwsCredentials(aws_access_key_id=key)})
    assert (source_of(edited) == source_of(embedded)) is same
    assert still_named(edited) is same


def test_what_says_nothing_yet_is_taken_without_a_word() -> None:
    claim = claim_of("docs_g0001", MINE, None, None, accepted=False)
    assert claim.source.place == MINE.place
    assert claim.source.ledger


def test_a_claim_that_stands_stays_as_it_is() -> None:
    assert claim_of("docs_g0001", MINE, row(HELD), HELD, accepted=False) == Claim(HELD, ())
    assert claim_of("docs_g0001", MINE, row(HELD), None, accepted=False) == Claim(HELD, ())


@pytest.mark.parametrize(
    ("known", "kept"), [(row(OTHER), OTHER), (row(OTHER), None), (None, OTHER), (row(HELD), OTHER), (row(OTHER), HELD)]
)
def test_another_bucket_is_refused_until_it_is_accepted(known: dict[str, Any] | None, kept: Source | None) -> None:
    with pytest.raises(SourceError) as refused:
        claim_of("docs_g0001", MINE, known, kept, accepted=False)
    assert "prefix 'gudies/'" in str(refused.value)
    assert "prefix 'guides/'" in str(refused.value)
    assert "--accept-source" in str(refused.value)
    claim = claim_of("docs_g0001", MINE, known, kept, accepted=True)
    assert claim.source.place == MINE.place
    assert claim.source.ledger not in {"mine", ""}
    assert claim_of("docs_g0001", MINE, claim.as_row(), claim.source, accepted=False) == claim


def test_a_ledger_whose_generation_another_took_is_refused() -> None:
    with pytest.raises(SourceError, match="another ledger"):
        claim_of("docs_g0001", MINE, row(HELD), THEIRS, accepted=False)
    claim = claim_of("docs_g0001", MINE, row(HELD), THEIRS, accepted=True)
    with pytest.raises(SourceError, match="another ledger"):
        claim_of("docs_g0001", MINE, row(THEIRS), claim.source, accepted=False)


def test_an_empty_ledger_takes_over_what_holds_the_same_bucket() -> None:
    claim = claim_of("docs_g0001", MINE, None, HELD, accepted=False)
    assert claim.source.ledger not in {"mine", ""}
    assert claim.before == (HELD,)


def test_a_server_that_forgot_the_change_shows_what_is_known_to_be_over() -> None:
    claim = claim_of("docs_g0001", MINE, row(OTHER), OTHER, accepted=True)
    assert claim_of("docs_g0001", MINE, claim.as_row(), OTHER, accepted=False) == claim
    taken = claim_of("docs_g0001", MINE, None, THEIRS, accepted=False)
    assert claim_of("docs_g0001", MINE, taken.as_row(), THEIRS, accepted=False) == taken


def test_what_is_remembered_is_bounded() -> None:
    before = tuple(replace(HELD, ledger=str(number)) for number in range(50))
    claim = claim_of("docs_g0001", MINE, row(HELD, *before), THEIRS, accepted=True)
    assert len(claim.before) == 20
    assert claim.before[-1] == THEIRS
    assert asdict(THEIRS) in claim.as_row()["before"]
