"""The structured style: an answer as JSON, claim by claim, each claim with passages and quotes.

    {"answerable": true, "claims": [{"text": "…", "citations": [{"passage": 2, "quote": "…"}]}]}

The schema limits numbers and lengths, so that a rambling model comes to an end. It allows only the numbers of passages
that were shown.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from tasks.citations.drafts import Cited, Draft
from tasks.citations.markers import without_marks

MOST_CLAIMS, MOST_CITATIONS = 8, 3
TEXT_LENGTH, QUOTE_LENGTH, SHORTEST_QUOTE = 400, 240, 5
_BEGIN = re.compile(r'\{[^\[\]{}]*"(claims|sentences)"\s*+:\s*+\[')
_BETWEEN = re.compile(r"[ \t\r\n,]*+")
_REFUSES = re.compile(r'\{\s*+"answerable"\s*+:\s*+false\b')


class Quoted(BaseModel):
    """A passage's number and a quote of it."""

    passage: int
    quote: str = ""


class Claimed(BaseModel):
    """A statement and its citations."""

    text: str = Field(min_length=1)
    citations: list[Quoted] = []


class Assigned(BaseModel):
    """The citations of a sentence of an answer that is already written."""

    sentence: int
    citations: list[Quoted] = []


class Structured(BaseModel):
    """The whole answer."""

    answerable: bool = True
    claims: list[Claimed]


class Assignments(BaseModel):
    """The whole second answer in two-stage mode."""

    sentences: list[Assigned]


Whole = TypeVar("Whole", bound=BaseModel)
Item = TypeVar("Item", bound=BaseModel)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _citations(passages: int) -> dict[str, Any]:
    quote = {"type": "string", "minLength": SHORTEST_QUOTE, "maxLength": QUOTE_LENGTH}
    one = _object(passage={"type": "integer", "enum": list(range(1, passages + 1))}, quote=quote)
    return {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_CITATIONS}


def answer_schema(passages: int) -> dict[str, Any]:
    """Return the JSON schema of an answer from a number of passages."""
    text = {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH}
    claim = _object(text=text, citations=_citations(passages))
    return _object(answerable={"type": "boolean"}, claims={"type": "array", "items": claim, "maxItems": MOST_CLAIMS})


def assignment_schema(sentences: int, passages: int) -> dict[str, Any]:
    """Return the JSON schema of citations for a number of sentences."""
    cited = {**_citations(passages), "minItems": 0}
    one = _object(sentence={"type": "integer", "enum": list(range(1, sentences + 1))}, citations=cited)
    return _object(sentences={"type": "array", "items": one, "maxItems": sentences})


def bare(text: str) -> str:
    """Return an answer without the Markdown code block that some models put around it."""
    text = text.strip()
    if not text.startswith("```"):
        return text
    return text[3:].removeprefix("json").removesuffix("```").strip()


def parse(kind: type[Whole], text: str) -> Whole | None:
    """Parse an answer as ``kind``. Return None for plain text, broken JSON and JSON of another form."""
    try:
        return kind.model_validate(_readable(json.loads(bare(text))))
    except (ValueError, RecursionError):
        return None


def _readable(value: Any) -> Any:
    """Replace lone surrogates in JSON: a model can escape them, but nothing can print them."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def complete(kind: type[Item], name: str, text: str) -> list[Item]:
    """Return the complete items of the array ``name`` in JSON that broke off, or is still streaming in."""
    text = bare(text)
    begin = _BEGIN.match(text)
    position, decoder, found = begin.end() if begin and begin[1] == name else len(text), json.JSONDecoder(), []
    while position < len(text):
        between = _BETWEEN.match(text, position)
        try:
            value, position = decoder.raw_decode(text, between.end() if between else position)
            found.append(kind.model_validate(_readable(value)))
        except (ValueError, RecursionError):
            break
    return found


def refuses(text: str) -> bool:
    """Return whether JSON, complete or not, says that the passages do not hold the answer."""
    return bool(_REFUSES.match(bare(text)))


def cited(citations: list[Quoted]) -> tuple[Cited, ...]:
    """Convert citations to the form in which they are checked."""
    return tuple(Cited(one.passage, one.quote) for one in citations)


def drafts(claims: list[Claimed]) -> tuple[Draft, ...]:
    """Convert claims to drafts. A number in brackets within a claim is no citation, and is removed."""
    texts = ((without_marks(" ".join(one.text.split())), one) for one in claims)
    return tuple(Draft(text, cited(one.citations)) for text, one in texts if text)
