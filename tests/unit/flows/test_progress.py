"""What a long sync says of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import progress
from tasks.indexing.outcome import Outcome, Tally


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (58.6, "59 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min"), (4_000_000, "1,111 h 6 min")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words


def test_the_rate_and_the_time_left() -> None:
    assert progress.described(0, 100, 0, 0.0) == "0 of 100 objects, 0 chunks, 0 objects a second"
    assert progress.described(1000, 4000, 3210, 20.0) == (
        "1,000 of 4,000 objects, 3,210 chunks, 50 objects a second, 1 min 0 s left"
    )
    assert progress.described(4000, 4000, 9000, 80.0).endswith("50 objects a second")


def test_a_short_sync_makes_no_artifact_and_a_long_one_one_that_ends_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = [0.0], list[Any]()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda share, **more: made.append((share, more)) or "id")
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _id, share, **more: made.append((share, more)))
    done, shown = Tally(10), progress.Progress("docs", 10)

    def wave(at: float, objects: int) -> None:
        clock[0] = at
        done.add("written", Outcome(done=tuple((f"{n}", 2) for n in range(objects)), chunks_embedded=2 * objects))
        shown.show(done)

    wave(1, 3)
    assert made == []
    wave(6, 3)
    wave(7, 2)
    wave(8, 2)
    assert [share for share, _ in made] == [60.0, 100.0]
    assert made[0][1] == {
        "key": "progress-docs", "description": "6 of 10 objects, 12 chunks, 1 objects a second, 4 s left",
    }  # fmt: skip
