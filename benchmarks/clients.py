"""Clients that ask at the same time, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def at_once(client: Callable[[int], None], number: int) -> float:
    """Run ``client`` with each of the numbers from 0, all at once; return the seconds until the last one has ended."""
    threads = [threading.Thread(target=client, args=[one]) for one in range(number)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def of_sorted(values: list[float], share: float) -> float:
    """Return the value below which a share of all lies, from a list in order."""
    return values[min(int(len(values) * share), len(values) - 1)]
