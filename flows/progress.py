"""Show how far a long sync is: a line in its log and a progress artifact, with the rate and the time that is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.task_runs import run_logger

if TYPE_CHECKING:
    from tasks.indexing.outcome import Tally

EVERY_SECONDS = 5.0


def described(done: int, objects: int, chunks: int, seconds: float) -> str:
    """Return the progress in words: 1,024 of 4,000 objects, 3,210 chunks, 51 objects a second, 58 s left."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f", {in_words((objects - done) / rate)} left" if rate and done < objects else ""
    return f"{done:,} of {objects:,} objects, {chunks:,} chunks, {rate:,.0f} objects a second{left}"


def in_words(seconds: float) -> str:
    """Return a time in its two largest units: 58 s, 12 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


class Progress:
    """Shows the progress of one sync. It makes no artifact for a sync that is done within seconds."""

    def __init__(self, pipeline: str, objects: int) -> None:
        self._pipeline, self._objects = pipeline, objects
        self._began = self._shown = time.monotonic()
        self._artifact: UUID | None = None

    def show(self, done: Tally) -> None:
        """Show what is done, if that was not shown within the last seconds. Call it after each wave."""
        now = time.monotonic()
        ended = done.objects >= self._objects
        if now - self._shown < EVERY_SECONDS and not (ended and self._artifact):
            return
        self._shown = now
        chunks = done.chunks_embedded + done.chunks_reused
        words = described(min(done.objects, self._objects), self._objects, chunks, now - self._began)
        run_logger().info(words)
        percent = 100.0 * min(done.objects / max(self._objects, 1), 1.0)
        if self._artifact is None:
            key = f"progress-{self._pipeline}"
            self._artifact = create_progress_artifact(percent, key=key, description=words)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._artifact, percent, description=words)
