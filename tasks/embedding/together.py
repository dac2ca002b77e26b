"""Embed questions that wait at the same time in one forward pass."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from tasks import metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.models import Vectors

    Encode = Callable[[Sequence[str], str], Vectors]
    """Texts and a prompt to unit vectors, shape (texts, dimension)."""

MOST_QUESTIONS = 64
MOST_CHARACTERS = 16_384
"""Of one forward pass, so that many long questions do not keep a short one waiting for all of them."""


class Together:
    """Collects questions while the model is busy, and embeds all that wait once it is free.

    Nobody waits for company: a lone question is embedded at once. ``executor`` runs the forward passes, one at a time;
    batches of documents take turns with questions there.
    """

    def __init__(self, encode: Encode, executor: Executor) -> None:
        self._encode, self._executor = encode, executor
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str, float, Future[NDArray[np.float32]]]] = deque()
        self._called = False
        """Whether the executor was asked to come for what waits."""

    def submit(self, questions: Sequence[str], prompt: str) -> list[Future[NDArray[np.float32]]]:
        """Return the vectors to be of the questions, shape (dimension,) each."""
        now = time.monotonic()
        vectors: list[Future[NDArray[np.float32]]] = [Future() for _ in questions]
        with self._lock:
            for question, vector in zip(questions, vectors, strict=True):
                self._waiting.append((question, prompt, now, vector))
            self._call()
        return vectors

    def _call(self) -> None:
        """Ask the executor to come, unless it was asked already. Called with the lock held."""
        if not self._called and self._waiting:
            self._called = True
            self._executor.submit(self._pass)

    def _pass(self) -> None:
        """Embed what waits, as far as it shares a prompt and fits one forward pass."""
        with self._lock:
            some = self._take()
            self._called = False
            self._call()  # behind what else the executor was asked for meanwhile
        some = [one for one in some if one[3].set_running_or_notify_cancel()]
        if not some:
            return
        metrics.EMBED_BATCH_SIZE.observe(len(some))
        began = time.monotonic()
        for *_, since, _future in some:
            metrics.EMBED_WAIT_SECONDS.observe(began - since)
        try:
            vectors = self._encode([question for question, *_ in some], some[0][1])
        except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            for *_, future in some:
                future.set_exception(error)
            return
        for (*_, future), vector in zip(some, vectors, strict=True):
            future.set_result(vector)

    def _take(self) -> list[tuple[str, str, float, Future[NDArray[np.float32]]]]:
        taken = [self._waiting.popleft()]
        prompt, characters = taken[0][1], len(taken[0][0])
        while self._waiting and len(taken) < MOST_QUESTIONS:
            question, of_next, *_ = self._waiting[0]
            characters += len(question)
            if of_next != prompt or characters > MOST_CHARACTERS:
                break
            taken.append(self._waiting.popleft())
        return taken
