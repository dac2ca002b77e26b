"""Check the citations of a model's answer: the passage has to be one that was shown, and has to contain the quote.

number of no shown passage ────▶ dropped
quote not in its passage ──────▶ kept, not verified; the same if it is too short to prove anything
claim without a verified quote ▶ marked [?], or left out (``strict``)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from tasks.citations.drafts import Cited, Draft
from tasks.citations.markers import MARK, cited_numbers, says_nothing, unnumbered, without_unknown
from tasks.citations.quotes import locate, says_enough
from tasks.models import Checked, Citation, Claim, Hit, Part
from tasks.text.sentences import sentences
from tasks.text.words import words

WORD = re.compile(r"\w+")
LEAST_IN_COMMON = 1 / 3
"""If the model gave no quote, a sentence must have this share of the statement's words to count as its quote."""
UNVERIFIED = " [?]"
"""The mark after a claim that no verified quote supports."""


def supporting_quote(claim: str, passage: str) -> str:
    """Return the sentence of the passage, verbatim, that shares the most words with the claim for its length."""
    asked = set(WORD.findall(MARK.sub("", claim).lower()))

    def shared(sentence: tuple[str, frozenset[str]]) -> float:
        _, own = sentence
        return len(asked & own) / (len(own) ** 0.5 or 1.0)

    return max(_sentences(passage), key=shared)[0]


@lru_cache(maxsize=128)
def _sentences(passage: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the sentences of a passage, each with its words. Cached, as each citation without a quote needs all."""
    told = sentences(passage) or [passage.strip()]
    return tuple((one, frozenset(WORD.findall(one.lower()))) for one in told)


@lru_cache(maxsize=1024)
def _stems(text: str) -> frozenset[str]:
    return frozenset(words(text))


def supports(quote: str, claim: str) -> bool:
    """Return whether a quote that we chose has enough of the claim's words, compared as stems without stop words."""
    said = _stems(MARK.sub("", claim))
    return len(said & _stems(quote)) >= LEAST_IN_COMMON * max(len(said), 1)


def citation(draft: Draft, one: Cited, passages: Sequence[Hit]) -> Citation | None:
    """Return a checked citation, or None if there is no passage with its number.

    If the model gave no quote, the quote is the sentence of the passage that is nearest in words. It is verified if it
    shares enough words. No quote under three words and twelve characters is verified, nor one that cuts a word.
    """
    if not 1 <= one.passage <= len(passages):
        return None
    hit = passages[one.passage - 1]
    claim = unnumbered(draft.text)
    quote = supporting_quote(claim, hit.text) if one.quote is None else one.quote
    begin = hit.text.find(quote) if one.quote is None else -1
    span = (begin, begin + len(quote)) if begin >= 0 else locate(quote, hit.text, whole_words=True)
    if span and says_enough(quote) and (one.quote is not None or supports(quote, claim)):
        made = cited_at(hit, one.passage, span)
        if says_enough(made.quote):  # a quote across two chunks was cut to the part in one of them
            return made
    said = " ".join((one.quote or "").split())
    return Citation(
        one.passage, hit.key, hit.heading, hit.page, said, hit.chunk_id, hit.outdated, False, version=hit.etag
    )


def check_draft(draft: Draft, passages: Sequence[Hit], strict: bool = False) -> Checked | None:
    """Return one checked piece of an answer with the white space after it, or None if ``strict`` leaves it out."""
    if not draft.statement:  # strict also drops headings, because they are unverified text
        as_it_is = Checked(without_unknown(draft.text, len(passages)) + draft.after)
        return as_it_is if says_nothing(draft.text) or not strict else None
    found = [made for one in draft.cited if (made := citation(draft, one, passages))]
    kept = tuple(dict.fromkeys(one for one in found if one.verified or not strict))
    verified = list(dict.fromkeys(one.n for one in kept if one.verified))
    if strict and not verified:
        return None
    text = without_unknown(draft.text, len(passages))
    missing = [n for n in verified if n not in cited_numbers(text)]
    shown = text + ("".join(f" [{n}]" for n in missing) if verified else UNVERIFIED)
    numbers = tuple(dict.fromkeys(one.n for one in kept))
    return Checked(shown + draft.after, (Claim(MARK.sub("", unnumbered(text)).strip(), numbers, bool(verified)),), kept)


def check(drafts: Sequence[Draft], passages: Sequence[Hit], strict: bool = False) -> Checked:
    """Return an answer with only the citations of existing passages, each with its quote, verified or not.

    ``strict`` leaves out claims and citations that are not verified. If no claim is left, the text is empty.
    """
    kept = [one for draft in drafts if (one := check_draft(draft, passages, strict))]
    claims = tuple(claim for one in kept for claim in one.claims)
    if strict and not claims:
        return Checked("")
    citations = tuple(dict.fromkeys(made for one in kept for made in one.citations))
    return Checked("".join(one.text for one in kept).strip(), claims, citations)


def cited_at(passage: Hit, n: int, span: tuple[int, int]) -> Citation:
    """Return the verified citation ``n`` of the text at ``span``, in characters of a passage.

    A quote across two chunks is cut to its part in the chunk that holds more of it.
    """
    part = _most(passage, span)
    begin, end = max(span[0], part.begin), min(span[1], part.end)
    return Citation(
        n=n,
        key=passage.key,
        heading=passage.heading,
        page=part.page,
        quote=passage.text[begin:end],
        chunk_id=part.chunk_id,
        outdated=passage.outdated,
        version=passage.etag,
        span=(begin - part.begin, end - part.begin),
    )


def _most(passage: Hit, span: tuple[int, int]) -> Part:
    parts = passage.parts or (Part(passage.chunk_id, passage.page, 0, len(passage.text)),)
    return max(parts, key=lambda part: min(span[1], part.end) - max(span[0], part.begin))
