"""Find where a quote stands in its passage, however white space, case and Unicode forms differ."""

from __future__ import annotations

import unicodedata

from tasks.fence import STANDS_FOR

OUTER = " \t\n\"'“”‘’«»‹›„`…."


def fold(text: str) -> tuple[str, list[int]]:
    """Return a text as it is compared, and for each of its characters the position it comes from.

    Compatible forms (NFKD, so that composed and decomposed are one) in lower case, runs of white space as one
    space, invisible characters left out.
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
                form = " "  # noqa: PLW2901 - any white space is a space
            elif unicodedata.category(form) in ("Cf", "Cc"):
                continue
            folded.append(form)
            origins.append(position)
    while folded and folded[-1] == " ":
        folded.pop()
        origins.pop()
    return "".join(folded), origins


def locate(quote: str, passage: str) -> tuple[int, int] | None:
    """Return from where to where, in characters of the passage, a quote stands in it; None when it does not.

    Quotation marks and dots of omission around it are forgiven. A quote without a letter or digit stands nowhere.
    """
    folded, origins = fold(passage)
    for words in (quote, quote.strip(OUTER)):
        wanted, _ = fold(words)
        at = folded.find(wanted)
        if at >= 0 and any(one.isalnum() for one in wanted):
            return origins[at], _end(passage, origins[at + len(wanted) - 1])
    return None


def _end(passage: str, last: int) -> int:
    """Return the position behind a character, combining marks on it included."""
    end = last + 1
    while end < len(passage) and unicodedata.combining(passage[end]):
        end += 1
    return end
