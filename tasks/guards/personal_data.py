"""Find personal data in a text, and mask it, by patterns and check digits alone.

The recognisers are those of presidio-analyzer which need no language model: nothing is downloaded or sent anywhere.
They find what has a form (an address, a number), never names. Text is read in windows of bounded length: some of the
patterns take quadratic time, and the texts are anybody's.

    masked("write to eve@example.org")     "write to <EMAIL_ADDRESS>", ("EMAIL_ADDRESS",)
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from presidio_analyzer import EntityRecognizer

NAMES = {
    "EMAIL_ADDRESS": "an e-mail address",
    "CREDIT_CARD": "a credit card number",
    "IBAN_CODE": "an IBAN",
    "IP_ADDRESS": "an IP address",
    "US_SSN": "a US social security number",
    "UK_NINO": "a UK national insurance number",
    "IT_FISCAL_CODE": "an Italian fiscal code",
    "CRYPTO": "a Bitcoin address",
    "PHONE_NUMBER": "a phone number",
}
"""What is found, in words; of two kinds that a text may be, the first counts."""
RANK = {kind: rank for rank, kind in enumerate(NAMES)}
LEAST_SCORE = 0.4
"""Presidio gives less to patterns that say little by themselves, such as any nine digits."""
WINDOW, OVERLAP = 1500, 300
"""Characters that are read at once, and those that the next window reads again: no entity is longer."""
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "IN", "BR", "AU")
"""Whose phone numbers are known without a country code. With one, all are."""
CALLED = re.compile(r"(?i)\b(?:phone|tel|telephone|mobile|cell|call|fax|number is|whatsapp)\b[^\n]{0,20}\Z")
GROUPED = re.compile(r"[+(]|\d[ ./-]+\d{2,}[ ./-]+\d")
DATED = re.compile(r"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:0?[1-9]|[12]\d|3[01])(?!\d)")
QUAD = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
HOST = re.compile(r"[^\W\d_]{2,}")
_loading = threading.Lock()


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """Personal data of a kind, from character ``begin`` to ``end``."""

    begin: int
    end: int
    kind: str


def find(text: str) -> tuple[Found, ...]:
    """Return the personal data in a text, in reading order, none within another."""
    found = {one for start in starts(text) for one in _find(text[start : start + WINDOW], start)}
    return without_overlaps(sorted(found))


def masked(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text with the kind in place of each piece of personal data, and the kinds, each once."""
    found = find(text)
    parts, end = [], 0
    for one in found:
        parts += [text[end : one.begin], f"<{one.kind}>"]
        end = one.end
    return "".join([*parts, text[end:]]), tuple(dict.fromkeys(one.kind for one in found))


def in_words(kinds: Sequence[str]) -> str:
    """Return kinds as people read them."""
    return ", ".join(NAMES[kind] for kind in kinds)


def starts(text: str) -> Iterator[int]:
    """Yield where each window begins."""
    yield 0
    yield from range(WINDOW - OVERLAP, len(text) - OVERLAP, WINDOW - OVERLAP)


def without_overlaps(found: Sequence[Found]) -> tuple[Found, ...]:
    """Return what was found, with overlaps joined under the kind of the longest."""
    kept: list[Found] = []
    for one in found:
        if kept and one.begin < kept[-1].end:
            before = kept[-1]
            likelier = min(before, one, key=lambda found: (found.begin - found.end, RANK[found.kind]))
            kept[-1] = Found(before.begin, max(before.end, one.end), likelier.kind)
        else:
            kept.append(one)
    return tuple(kept)


def _find(text: str, start: int) -> Iterator[Found]:
    for kind, recognizer in recognizers():
        if not may_hold(kind, text):
            continue
        for result in recognizer.analyze(text, [kind], None):  # type: ignore[arg-type]  # these read the text alone
            begin = result.end - len(text[result.start : result.end].lstrip())
            if result.score >= LEAST_SCORE and holds(kind, text, begin, result.end):
                yield Found(start + begin, start + result.end, kind)


def may_hold(kind: str, text: str) -> bool:
    """Return whether to look for a kind at all: most texts have no @ and few digits."""
    if kind == "EMAIL_ADDRESS":
        return "@" in text
    return any(character.isdigit() for character in text)


def holds(kind: str, text: str, begin: int, end: int) -> bool:
    """Return whether what a pattern matched is likely to be what the pattern is for."""
    said = text[begin:end]
    if kind == "EMAIL_ADDRESS":  # lodash@4.17.21 is none
        return bool(HOST.fullmatch(said.rpartition(".")[2]))
    if kind == "PHONE_NUMBER":  # 2026-11-27 and 4155552671 are none by themselves
        grouped = bool(GROUPED.search(said)) and not DATED.search(said) and not QUAD.fullmatch(said)
        return grouped or bool(CALLED.search(text[max(begin - 60, 0) : begin]))
    if kind == "IP_ADDRESS":
        return is_of_somebody(said)
    return True


def is_of_somebody(address: str) -> bool:
    """Return whether an IP address may be a machine's own: not a loopback address, a mask, or a::b of a program."""
    try:
        ip = ipaddress.ip_interface(address).ip
    except ValueError:
        return False
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast or (ip.version == 4 and ip.is_reserved):
        return False
    return any(character.isdigit() for character in address)


def recognizers() -> tuple[tuple[str, EntityRecognizer], ...]:
    """Return the recognisers by kind. The first call imports presidio, which takes seconds and some 50 MB."""
    with _loading:  # several threads may ask first
        return _recognizers()


@cache
def _recognizers() -> tuple[tuple[str, EntityRecognizer], ...]:
    from presidio_analyzer import predefined_recognizers as known

    class Email(known.EmailRecognizer):
        """Presidio's own would fetch the list of public suffixes, and not know a company's internal names."""

        def validate_result(self, pattern_text: str) -> None:
            """Leave the pattern's own score."""

    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)  # it logs what it fails to validate
    made = (
        Email(),
        known.PhoneRecognizer(supported_regions=REGIONS),
        known.CreditCardRecognizer(),
        known.IbanRecognizer(),
        known.IpRecognizer(),
        known.UsSsnRecognizer(),
        known.UkNinoRecognizer(),
        known.ItFiscalCodeRecognizer(),
        known.CryptoRecognizer(),
    )
    return tuple((str(one.supported_entities[0]), one) for one in made)
