"""Stop a sync before it deletes more than the limit without consent: a wrong listing looks like an emptied bucket.

An object counts if it answers and the bucket does not show its bytes under another key. So a renamed folder costs
nothing. Deletions that an earlier run recorded do not count, because they were allowed then.
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
"""The number of objects from which ``max_deleted_share`` applies. Of fewer, one or two are already a large share."""
SHARE_OF_FEW = 0.5
FEWEST = 3
"""Fewer deletions than this are never stopped: somebody with two files may delete both."""


def unasked(held: int, settings: Settings) -> int:
    """Return how many of ``held`` objects may be deleted without a person's consent."""
    share = settings.max_deleted_share
    if not share:
        return 0
    return max(int((share if held >= MANY else max(share, SHARE_OF_FEW)) * held), FEWEST - 1)


def stop(collection: str, loss: Loss, source: S3Source, settings: Settings, *, accepted: bool = False) -> None:
    """Raise ``DeletionError`` if more would be deleted than is allowed without consent.

    ``accepted`` says that a person accepted another bucket. The message then asks for both consents together.
    """
    if loss.lost <= unasked(loss.held, settings):
        return
    prefix = f" under the prefix '{source.prefix}'" if source.prefix else ""
    options = ["--accept-source", "--allow-deletions"] if accepted else ["--allow-deletions"]
    globs = (
        " Objects that include, exclude or golden leave out count as gone." if source.include or source.exclude else ""
    )
    raise DeletionError(
        f"{loss.lost:,} of the {loss.held:,} objects that {collection} holds are gone from {where(source)}{prefix}. "
        f"The bucket lists {loss.listed:,} objects there. So many are not deleted without consent (max_deleted_share "
        f"{settings.max_deleted_share:g}). Nothing was deleted, and they still answer questions.{globs} "
        "If the bucket or the prefix is wrong or incomplete, correct it. If the objects are meant to go, confirm it "
        f"once: `lockstep sync {' '.join(options)}`, or the flow's parameters of the same names.",
        loss,
    )
