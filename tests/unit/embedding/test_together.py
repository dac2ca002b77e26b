"""Questions that wait share a forward pass; a lone one waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blocks.embedder import Dtype, Embedder
from tasks.embedding.model import load_model
from tasks.embedding.together import MOST_CHARACTERS, MOST_QUESTIONS, Together


class Encoder:
    """Notes what it is given; waits until it is let."""

    def __init__(self) -> None:
        self.passes: list[tuple[list[str], str]] = []
        self.free = threading.Event()
        self.busy = threading.Event()

    def __call__(self, texts: Sequence[str], prompt: str) -> np.ndarray:
        self.passes.append((list(texts), prompt))
        self.busy.set()
        self.free.wait(10)
        if "bad" in texts:
            raise ValueError("a bad text")
        return np.array([[float(len(text))] for text in texts], dtype=np.float32)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def together(encoder: Encoder) -> Together:
    return Together(encoder, ThreadPoolExecutor(1))


def test_a_lone_question_is_embedded_at_once(encoder: Encoder, together: Together) -> None:
    encoder.free.set()
    assert together.submit(["four"], "")[0].result(5) == [4.0]
    assert encoder.passes == [(["four"], "")]


def test_what_waits_while_the_model_is_busy_goes_together(encoder: Encoder, together: Together) -> None:
    first = together.submit(["first"], "")[0]
    assert encoder.busy.wait(5)
    others = [together.submit(["x" * n], "")[0] for n in range(1, 6)]
    encoder.free.set()
    assert first.result(5) == [5.0]
    assert [other.result(5)[0] for other in others] == [1, 2, 3, 4, 5]
    assert [len(texts) for texts, _ in encoder.passes] == [1, 5]


def test_prompts_are_not_mixed_and_passes_are_bounded(encoder: Encoder, together: Together) -> None:
    together.submit(["first"], "")[0]
    assert encoder.busy.wait(5)
    waiting = [together.submit(["a"], "one: ")[0] for _ in range(MOST_QUESTIONS + 1)]
    waiting += [together.submit(["b"], "two: ")[0], together.submit(["c" * MOST_CHARACTERS], "two: ")[0]]
    encoder.free.set()
    for one in waiting:
        one.result(5)
    assert [(len(texts), prompt) for texts, prompt in encoder.passes[1:]] == [
        (MOST_QUESTIONS, "one: "), (1, "one: "), (1, "two: "), (1, "two: "),
    ]  # fmt: skip


def test_an_error_reaches_those_that_shared_the_pass_and_no_others(encoder: Encoder, together: Together) -> None:
    together.submit(["first"], "")[0]
    assert encoder.busy.wait(5)
    bad = [together.submit(["bad"], "")[0], together.submit(["its neighbour"], "")[0]]
    encoder.free.set()
    for one in bad:
        with pytest.raises(ValueError, match="a bad text"):
            one.result(5)
    assert together.submit(["later"], "")[0].result(5) == [5.0]


def test_who_has_gone_is_not_embedded(encoder: Encoder, together: Together) -> None:
    together.submit(["first"], "")[0]
    assert encoder.busy.wait(5)
    gone, stays = together.submit(["gone"], "")[0], together.submit(["stays"], "")[0]
    assert gone.cancel()
    encoder.free.set()
    assert stays.result(5) == [5.0]
    assert encoder.passes[1] == (["stays"], "")


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.9999)])
def test_vectors_are_those_of_each_question_alone(dtype: Dtype, least: float) -> None:
    """In bfloat16 shorter questions are padded with what rounds otherwise: as far as it is from float32 itself."""
    model = load_model(Embedder(dtype=dtype))
    questions = [f"Question {n}: {'how and why ' * (n % 7)}does part {n} work?" for n in range(40)]
    alone = [model.encode([question])[0] for question in questions]
    together = model.encode_questions(questions)
    assert min(float(np.dot(a, b)) for a, b in zip(alone, together, strict=True)) >= least
    assert np.allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-6)
