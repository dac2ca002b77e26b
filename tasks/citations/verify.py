"""Check the citations of a model's answer: only passages it was shown, only words that stand there.

number outside the context ──▶ dropped
quote not in its passage ────▶ kept, not verified; nor is one that is too short to prove anything
claim without a verified one ▶ marked [?], or left out (``strict``)
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
"""Share of a statement's words that a sentence has to have to pass for its quote, where the model gave none."""
UNVERIFIED = " [?]"
"""Stands behind a claim that no verified quote supports."""


def supporting_quote(claim: str, passage: str) -> str:
    """Return the sentence of the passage, verbatim, that shares most of its words with the claim."""
    asked = set(WORD.findall(MARK.sub("", claim).lower()))

    def shared(sentence: tuple[str, frozenset[str]]) -> float:
        _, own = sentence
        return len(asked & own) / (len(own) ** 0.5 or 1.0)

    return max(_sentences(passage), key=shared)[0]


@lru_cache(maxsize=128)
def _sentences(passage: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the sentences of a passage, each with its words: every citation without a quote looks at all of them."""
    told = sentences(passage) or [passage.strip()]
    return tuple((one, frozenset(WORD.findall(one.lower()))) for one in told)


@lru_cache(maxsize=1024)
def _stems(text: str) -> frozenset[str]:
    return frozenset(words(text))


def supports(quote: str, claim: str) -> bool:
    """Return whether a quote that we chose has enough of the claim's words: stems, without those that say nothing."""
    said = _stems(MARK.sub("", claim))
    return len(said & _stems(quote)) >= LEAST_IN_COMMON * max(len(said), 1)


def citation(draft: Draft, one: Cited, passages: Sequence[Hit]) -> Citation | None:
    """Return a citation, checked; None when there is no passage of its number.

    Without a quote of the model's, the sentence of the passage that is nearest in words is the quote, verified when
    it has enough of them. Nothing under three words or twelve characters is, nor a part of a word.
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
        if says_enough(made.quote):  # of words across two chunks, those in one are shown
            return made
    said = " ".join((one.quote or "").split())
    return Citation(
        one.passage, hit.key, hit.heading, hit.page, said, hit.chunk_id, hit.outdated, False, version=hit.etag
    )


def check_draft(draft: Draft, passages: Sequence[Hit], strict: bool = False) -> Checked | None:
    """Return one piece of an answer, checked, with the white space behind it; None when ``strict`` leaves it out."""
    if not draft.statement:  # a heading says something: nothing unverified stays with strict
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
    """Return an answer with only the citations that exist, each with its quote and whether that stands there.

    ``strict`` leaves out claims and citations that are not verified; without a claim left, the text is empty.
    """
    kept = [one for draft in drafts if (one := check_draft(draft, passages, strict))]
    claims = tuple(claim for one in kept for claim in one.claims)
    if strict and not claims:
        return Checked("")
    citations = tuple(dict.fromkeys(made for one in kept for made in one.citations))
    return Checked("".join(one.text for one in kept).strip(), claims, citations)


def cited_at(passage: Hit, n: int, span: tuple[int, int]) -> Citation:
    """Return the verified citation of what stands at ``span``, in characters of a passage, numbered ``n``.

    Words that begin in one chunk and end in the next are cited from the one that holds more of them.
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
