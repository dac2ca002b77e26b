"""Answer without a chat model: quote the sentences of the found chunks that are nearest to the question."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prefect import task

from tasks.citations.markers import without_marks
from tasks.citations.verify import cited_at
from tasks.models import Citation, Hit
from tasks.task_runs import ONCE
from tasks.text.sentences import sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blocks.settings import Settings
    from tasks.embedding.model import EmbeddingModel

    Encode = Callable[[Sequence[str]], NDArray[np.float32]]

CHUNKS_READ = 4
NEARLY_AS_GOOD = 0.6
"""A further sentence is added only if it scores at least this share of the best one."""
STATEMENT = re.compile(r"[.!。！:;][\"')\]»”*`]*$")
SAME = 0.95
"""A sentence with this cosine or more to a chosen sentence counts as a repetition."""


def candidates(hits: Sequence[Hit]) -> list[tuple[Hit, str]]:
    """Return the sentences of the best chunks, each with its chunk, in their order.

    Only statements, if there are any: a heading or another question is often nearest to the question and
    answers nothing.
    """
    found = [(hit, sentence) for hit in hits[:CHUNKS_READ] for sentence in sentences(hit.text)]
    return [(hit, sentence) for hit, sentence in found if STATEMENT.search(sentence)] or found


def choose(question: NDArray[np.float32], vectors: NDArray[np.float32], most: int) -> list[int]:
    """Return the positions of up to ``most`` sentences nearest to the question, in their order, without repetitions.

    ``vectors`` has shape (sentences, dimension). All vectors are unit vectors.
    """
    scores = vectors @ question
    chosen: list[int] = []
    for position in (-scores).argsort():
        if len(chosen) == most or (chosen and scores[position] < NEARLY_AS_GOOD * scores[chosen[0]]):
            break
        if all(vectors[position] @ vectors[other] < SAME for other in chosen):
            chosen.append(int(position))
    return sorted(chosen)


def extract(
    hits: Sequence[Hit], question: NDArray[np.float32], encode: Encode, most: int
) -> tuple[str, tuple[Citation, ...]]:
    """Return an answer made of verbatim sentences, and a citation for each, numbered as in the answer."""
    offered = candidates(hits) or [(hit, hit.text) for hit in hits[:1]]
    chosen = choose(question, encode([sentence for _, sentence in offered]), most)
    citations = tuple(quoted(n, *offered[i]) for n, i in enumerate(chosen, start=1))
    return " ".join(f"{shown(one.quote)} [{one.n}]" for one in citations), citations


def quoted(n: int, hit: Hit, sentence: str) -> Citation:
    """Return the citation of a sentence of a chunk, numbered ``n``."""
    begin = hit.text.index(sentence)
    return cited_at(hit, n, (begin, begin + len(sentence)))


def shown(sentence: str) -> str:
    """Return a sentence for an answer: in one line, without numbers that would look like citations."""
    return without_marks(" ".join(sentence.split()))


@task(name="extract", **ONCE)
def extract_answer(
    hits: Sequence[Hit], question: NDArray[np.float32], model: EmbeddingModel, settings: Settings
) -> tuple[str, tuple[Citation, ...]]:
    """Answer with the sentences nearest to the question."""
    prompt = model.embedder.document_prompt
    return extract(hits, question, lambda texts: model.encode(texts, prompt), settings.extract_sentences)
