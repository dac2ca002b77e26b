"""A parser that hangs, eats memory or dies is stopped; one that was stopped from outside is no bad file."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tasks.errors import PermanentError, TransientError
from tasks.isolate import Isolated


def hang() -> None:
    while True:
        time.sleep(0.05)


def eat() -> int:
    return len(bytearray(3 * 2**30))


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
        with pytest.raises((PermanentError, MemoryError)):
            isolated.result(isolated.start(eat))
        with pytest.raises(PermanentError, match="crashed"):
            isolated.result(isolated.start(crash))
        with pytest.raises(TransientError, match="stopped from outside"):
            isolated.result(isolated.start(die))
        assert isolated.result(isolated.start(fine)) == "fine"
