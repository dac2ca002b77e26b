"""Find a quote in its passage, whatever the white space, case and Unicode forms.

A quote proves something if the passage has it in whole words and it is long enough: three words, or twelve letters and
digits.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

STANDS_FOR = {"‹": "<", "⁅": "[", "⁆": "]"}
"""Replacements of characters that have a meaning in a prompt. In a quote they are read as the original characters."""


OUTER = " \t\n\"'“”‘’«»‹›„`…."
FEWEST_WORDS, FEWEST_CHARACTERS = 3, 12
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts without spaces. A word may end after any character, and each character counts as much as two letters."""


def fold(text: str) -> tuple[str, list[int]]:
    """Return a text in the form for comparison, and for each of its characters the original position.

    That form has compatible characters (NFKD, so that composed and decomposed ones are equal) in lower case. Runs of
    white space become one space. Invisible characters are left out.
    """
    folded: list[str] = []
    origins: list[int] = []
    for position, character in enumerate(text):
        plain = STANDS_FOR.get(character, character)
        forms = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", plain).casefold())
        for form in forms:
            if form.isspace():
                if not folded or folded[-1] == " ":
                    continue
                form = " "  # noqa: PLW2901 - any white space becomes a space
            elif unicodedata.category(form) in ("Cf", "Cc"):
                continue
            folded.append(form)
            origins.append(position)
    while folded and folded[-1] == " ":
        folded.pop()
        origins.pop()
    return "".join(folded), origins


def locate(quote: str, passage: str, whole_words: bool = False) -> tuple[int, int] | None:
    """Return the start and end of a quote in a passage, in characters of the passage, or None if it is not there.

    Quotation marks and ellipses around the quote are ignored. A quote without a letter or digit is never found. With
    ``whole_words``, nor is a quote that begins or ends within a word.
    """
    folded, origins = _folded(passage)
    for words in (quote, quote.strip(OUTER)):
        wanted, _ = fold(words)
        at = folded.find(wanted) if any(one.isalnum() for one in wanted) else -1
        while at >= 0:
            end = at + len(wanted)
            if not whole_words or (_is_border(folded, at) and _is_border(folded, end)):
                return origins[at], _end(passage, origins[end - 1])
            at += 1
            while whole_words and at < len(folded) and not _is_border(folded, at):
                at += 1
            at = folded.find(wanted, at)
    return None


@lru_cache(maxsize=128)
def _folded(passage: str) -> tuple[str, list[int]]:
    return fold(passage)


def says_enough(quote: str) -> bool:
    """Return whether a quote is long enough to prove something: any passage has a certain letter or number."""
    folded, _ = fold(quote)
    words = "".join(one if _in_word(one) else " " for one in folded).split()
    characters = sum(1 + bool(UNSPACED.match(one)) for one in folded if one.isalnum())
    return len(words) >= FEWEST_WORDS or characters >= FEWEST_CHARACTERS


def _is_border(folded: str, at: int) -> bool:
    """Return whether a word may begin or end at a position of a folded text."""
    if not 0 < at < len(folded):
        return True
    before, after = folded[at - 1], folded[at]
    if not (_in_word(before) and _in_word(after)):
        return True
    return unicodedata.category(after)[0] != "M" and bool(UNSPACED.match(before) or UNSPACED.match(after))


def _in_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def _end(passage: str, last: int) -> int:
    """Return the position after a character and its combining marks."""
    end = last + 1
    while end < len(passage) and unicodedata.combining(passage[end]):
        end += 1
    return end
