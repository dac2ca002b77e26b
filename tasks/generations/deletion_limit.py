"""Stop a sync before it deletes suspiciously much: a wrong listing looks like an emptied bucket.

What counts are objects that answer and whose bytes the bucket shows under no other key: a folder that was renamed
costs nothing. Deletions that an earlier run recorded are done; they were let through then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.bucket.errors import where
from tasks.errors import DeletionError
from tasks.models import Loss

if TYPE_CHECKING:
    from blocks.s3_source import S3Source
    from blocks.settings import Settings

MANY = 100
"""Objects from which on ``max_deleted_share`` counts; of fewer, one or two are a large share already."""
SHARE_OF_FEW = 0.5
FEWEST = 3
"""Fewer deletions than these are never stopped: somebody with two files may delete both."""


def unasked(held: int, settings: Settings) -> int:
    """Return how many of so many objects may be deleted without a person's consent."""
    share = settings.max_deleted_share
    if not share:
        return 0
    return max(int((share if held >= MANY else max(share, SHARE_OF_FEW)) * held), FEWEST - 1)


def stop(collection: str, loss: Loss, source: S3Source, settings: Settings, *, accepted: bool = False) -> None:
    """Raise ``DeletionError`` if a sync would delete more than the limit.

    ``accepted`` says that a person said yes to another bucket, which has to be said again with the other yes.
    """
    if loss.lost <= unasked(loss.held, settings):
        return
    prefix = f" under the prefix '{source.prefix}'" if source.prefix else ""
    options = ["--accept-source", "--allow-deletions"] if accepted else ["--allow-deletions"]
    globs = " What include, exclude and golden leave out counts as gone." if source.include or source.exclude else ""
    raise DeletionError(
        f"{loss.lost:,} of the {loss.held:,} objects that {collection} holds are gone from {where(source)}{prefix}. "
        f"It lists {loss.listed:,} objects. That is too many to delete unasked (max_deleted_share "
        f"{settings.max_deleted_share:g}), so nothing was deleted and all of them still answer.{globs} "
        "If the bucket or the prefix is wrong or incomplete, correct it. If the objects are meant to go, confirm it "
        f"once: `lockstep sync {' '.join(options)}`, or the flow's parameters of the same names.",
        loss,
    )
