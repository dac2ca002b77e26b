"""The [n] style: numbers in square brackets after the statements of a text."""

from __future__ import annotations

import re

MARK = re.compile(r"\s?\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_BREAK = re.compile(
    # The end of a sentence, with the marks after it, before a character that is not in lower case; or a line's end.
    r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)])|(?<=\d\]))(?P<space>[^\S\n]++)(?=[^\sa-z\[])|(?P<line>(?<!\s)[^\S\n]*+\n\s*+)"
)
_NUMBERING = re.compile(r"\A[\s*#>(-]*(?:\d{1,3}|[A-Za-z])[.)]*[\s*]*")
_NUMBERED = re.compile(r"\A[\s*#>(-]*(?:\d{1,3}|[A-Za-z])[.)]+[\s*]+(?=\S)")
_SAYS = re.compile(r"\w")


def cited_numbers(answer: str) -> list[int]:
    """Return the cited numbers, each once, in order: '[2] … [1, 3]' → 2, 1, 3."""
    numbers = (int(n) for marks in MARK.findall(answer) for n in marks.split(","))
    return list(dict.fromkeys(numbers))


def without_unknown(answer: str, known: int) -> str:
    """Return the answer without citations of passages that do not exist (numbers over ``known``, and 0)."""

    def keep(match: re.Match[str]) -> str:
        numbers = [n for n in (int(part) for part in match[1].split(",")) if 1 <= n <= known]
        return "".join(f" [{n}]" for n in numbers)

    return MARK.sub(keep, answer).strip()


def without_marks(text: str) -> str:
    """Return a text without citation marks.

    A mark that is glued to a word, as in code, stays readable, but in other brackets."""

    def drop(match: re.Match[str]) -> str:
        glued = match.start() > 0 and match[0].startswith("[") and match.string[match.start() - 1].isalnum()
        return f"［{match[1]}］" if glued else ""

    return MARK.sub(drop, text).strip()


def pieces(text: str) -> list[tuple[str, str]]:
    """Return the sentences and lines of an answer, each with the white space after it. Joined they are the text.

    A number at the start of a line is a list's, if more text follows on the line. It belongs to that text.
    """
    found: list[tuple[str, str]] = []
    begin = 0
    for match in _BREAK.finditer(text):
        at_line = not found or "\n" in found[-1][1]
        if match["space"] and at_line and _NUMBERING.fullmatch(text[begin : match.start()]):
            continue
        if match.start() > begin:
            found.append((text[begin : match.start()], match[0]))
            begin = match.end()
    return [*found, (text[begin:], "")] if begin < len(text) else found


def says_nothing(piece: str) -> bool:
    """Return whether a piece has no words, only rules or marks. A bare number counts, as it may be the answer."""
    return not _SAYS.search(MARK.sub("", piece))


def unnumbered(piece: str) -> str:
    """Return a piece of an answer without a list's number before it."""
    match = _NUMBERED.match(piece)
    return piece[match.end() :] if match else piece


def states(piece: str) -> bool:
    """Return whether a piece of an answer claims something. Headings and 'as follows:' do not."""
    words = MARK.sub("", piece).strip()
    return not says_nothing(piece) and not words.endswith(":") and not words.startswith("#")
