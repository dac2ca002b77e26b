"""How much a sync deletes unasked."""

from __future__ import annotations

import pytest

from blocks.s3_source import S3Source
from blocks.settings import Settings
from tasks.errors import DeletionError
from tasks.generations.deletion_limit import stop, unasked
from tasks.models import Loss

SOURCE = S3Source(bucket="handbooks", prefix="guides/", exclude=["drafts/*"])


@pytest.mark.parametrize(
    ("held", "share", "goes"),
    [
        (0, 0.2, 2),
        (1, 0.2, 2),
        (3, 0.2, 2),
        (4, 0.2, 2),
        (6, 0.2, 3),
        (7, 0.2, 3),
        (99, 0.2, 49),
        (100, 0.2, 20),
        (104, 0.2, 20),
        (1000, 0.2, 200),
        (1000, 0.0, 0),
        (99, 0.0, 0),
        (99, 1.0, 99),
        (99, 0.7, 69),
        (1000, 1.0, 1000),
    ],
)
def test_so_many_go_unasked(held: int, share: float, goes: int) -> None:
    settings = Settings(max_deleted_share=share)
    assert unasked(held, settings) == goes
    stop("docs_g0001", Loss(held, goes, 0), SOURCE, settings)
    with pytest.raises(DeletionError):
        stop("docs_g0001", Loss(held, goes + 1, 0), SOURCE, settings)


def test_who_is_stopped_reads_the_numbers_where_to_look_and_how_to_say_yes() -> None:
    with pytest.raises(DeletionError) as stopped:
        stop("docs_g0001", Loss(1200, 1100, 100, ("guides/a.md",)), SOURCE, Settings())
    for word in (
        "1,100 of the 1,200", "docs_g0001", "'handbooks'", "'guides/'", "lists 100 objects",
        "max_deleted_share 0.2", "exclude", "--allow-deletions", "Nothing was deleted",
    ):  # fmt: skip
        assert word in str(stopped.value), word
    assert stopped.value.loss.keys == ("guides/a.md",)
    assert "--accept-source" not in str(stopped.value)


def test_who_also_names_another_bucket_says_both_at_once() -> None:
    """The first yes is not kept by a sync that was stopped."""
    with pytest.raises(DeletionError, match="lockstep sync --accept-source --allow-deletions"):
        stop("docs_g0001", Loss(1200, 1100, 100), SOURCE, Settings(), accepted=True)
