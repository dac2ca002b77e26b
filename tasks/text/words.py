"""Tokenize a text for BM25: in lower case, stemmed, with identifiers whole and in their parts.

Servers tokenize texts in different ways, and none recognises an identifier. So chunks and questions are tokenized here
first, and each server only has to split at white space.
"""

from __future__ import annotations

import functools
import re
import threading
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snowballstemmer.basestemmer import BaseStemmer

WORDS = 1
"""Raise this number when the same text gives other words than before. It is part of the fingerprint."""
TOKEN = re.compile(r"\w+")
LONGEST_RUN = 1000
SEAM = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""The borders between parts of an identifier, as in response_model, readItems, HTTPException."""
IN_PAIRS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f]++)")
"""Scripts without spaces, whose characters are indexed in overlapping pairs. More scripts would change the index."""
STOP_WORDS = """
    a about an and are as at be been but by can could did do does for from had has have how i if in into is it its me
    my no not of on or our should so such than that the their then there these they this to was we were what when
    where which who why will with would you your
"""
ENGLISH = frozenset(STOP_WORDS.split())
"""Words that say nothing about a text's subject."""


def words(text: str) -> list[str]:
    """Return the words of a text, in order. Stop words are left out, unless there are no others."""
    every = [word for token in TOKEN.findall(_normal(text)) for word in _of_token(token)]
    return [_stem(word) for word in every if word not in ENGLISH] or every


def _normal(text: str) -> str:
    """Return a text in NFKC. A long text is normalized in pieces, because sorting endless combining marks is slow."""
    runs = (run[at : at + LONGEST_RUN] for run in text.split() for at in range(0, len(run), LONGEST_RUN))
    return (
        unicodedata.normalize("NFKC", text)
        if len(text) <= LONGEST_RUN
        else " ".join(unicodedata.normalize("NFKC", run) for run in runs)
    )


def _of_token(token: str) -> Iterator[str]:
    if IN_PAIRS.search(token):
        for run in IN_PAIRS.split(token):
            yield from _pairs(run) if IN_PAIRS.fullmatch(run) else filter(None, [run.lower()])
        return
    parts = [part.lower() for part in SEAM.split(token) if part]
    if parts:
        yield "".join(parts)
    if len(parts) > 1:
        yield from (part for part in parts if len(part) > 1)


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


_of_thread = threading.local()
"""One stemmer for each thread. A stemmer stores its current word, so two threads would mix their letters."""


def _stemmer() -> BaseStemmer:
    if not hasattr(_of_thread, "stemmer"):
        import snowballstemmer

        _of_thread.stemmer = snowballstemmer.stemmer("english")
    made: BaseStemmer = _of_thread.stemmer
    return made


@functools.lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    stemmed: str = _stemmer().stemWord(word) if word.isascii() else word
    return stemmed
