"""A parser that hangs, eats memory or dies is stopped; one that another process stopped is no bad file."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tasks.documents.sandbox import Isolated
from tasks.errors import PermanentError, TransientError


def hang() -> None:
    while True:
        time.sleep(0.05)


def eat() -> int:
    return len(bytearray(3 * 2**30))


MEMORY_KEPT: list[bytearray] = []


def keep(size: int) -> int:
    MEMORY_KEPT.append(bytearray(size))
    return sum(map(len, MEMORY_KEPT))


def die() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fine() -> str:
    return "fine"


def test_limits_hold_and_the_next_file_is_parsed() -> None:
    with Isolated(processes=1, seconds=2.0, memory_mb=256) as isolated:
        with pytest.raises(PermanentError, match="more than 2 s"):
            isolated.result(isolated.start(hang))
        with pytest.raises(PermanentError, match="more memory than the limit of 256 MiB"):
            isolated.result(isolated.start(eat))
        with pytest.raises(PermanentError, match="crashed"):
            isolated.result(isolated.start(crash))
        with pytest.raises(TransientError, match="another process stopped the parsing"):
            isolated.result(isolated.start(die))
        assert isolated.result(isolated.start(fine)) == "fine"


def test_a_process_is_replaced_after_so_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.documents.sandbox.FILES_PER_PROCESS", 2)
    with Isolated(processes=1, seconds=20.0, memory_mb=256) as isolated:
        first, second, third = (isolated.result(isolated.start(os.getpid)) for _ in range(3))
    assert first == second != third != os.getpid()


def test_what_one_file_leaves_in_memory_is_not_another_files_fault() -> None:
    with Isolated(processes=1, seconds=20.0, memory_mb=256) as isolated:
        each = 100 * 2**20
        attempts = [isolated.start(keep, each) for _ in range(5)]
        # Two fit in one process; the third is read in a process of its own, and the next process begins anew.
        assert [isolated.result(attempt) for attempt in attempts][:3] == [each, 2 * each, each]
        with pytest.raises(PermanentError, match="more memory"):
            isolated.result(isolated.start(keep, 4 * each))
        assert isolated.result(isolated.start(fine)) == "fine"
