"""What must hold of every answer, however much noise it is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tasks.answers.answer import answer
from tasks.answers.fence import neutral
from tasks.citations.verify import UNVERIFIED
from tasks.errors import LockstepError
from tasks.models import Answer, Citation, Hit, Part
from tasks.pipelines import load_pipeline
from tests.vllm.conftest import API_KEY, Exchange

_NUMBER = {name: re.compile(rf'"{name}"\s*:\s*(\d+)\b') for name in ("passage", "sentence")}


def plain(name: str, question: str, **changed: Any) -> Answer:
    """Answer without the flow engine, as other callers do; ``changed`` are settings for this question."""
    block = load_pipeline(name)
    return answer(block, question, block.settings.model_copy(update=changed))


def assert_checked(found: Answer, exchange: Exchange, marks: bool = False) -> None:
    """Each citation is of a passage that was in the prompt; each claim says whether one of its quotes stands there.

    With ``marks`` the model cites by [n], and the prompt has other brackets for those in the passages.
    """
    assert len(exchange.passages) <= len(found.passages)
    for citation in found.citations:
        assert_shown(citation, found.passages, exchange, marks)
    verified = {one.n for one in found.citations if one.verified}
    assert {n for claim in found.claims for n in claim.citations} == {one.n for one in found.citations}
    for claim in found.claims:
        assert not claim.verified or verified & set(claim.citations)
    assert found.answer.count(UNVERIFIED) >= sum(not claim.verified for claim in found.claims)


def assert_shown(citation: Citation, hits: Sequence[Hit], exchange: Exchange, marks: bool) -> None:
    """The passage that is cited stood in the prompt under that number; a verified quote stands in its chunk."""
    hit = hits[citation.n - 1]
    parts = hit.parts or (Part(hit.chunk_id, hit.page, 0, len(hit.text)),)
    chunk = next(hit.text[part.begin : part.end] for part in parts if part.chunk_id == citation.chunk_id)
    assert (citation.key, citation.version) == (hit.key, hit.etag)
    place, _, text = exchange.passages[citation.n].partition("\n")
    assert place.startswith(hit.key)
    assert text == neutral(hit.text, marks)
    assert citation.verified is (citation.span is not None)
    if citation.span:
        start, end = citation.span
        assert citation.quote
        assert chunk[start:end] == citation.quote


def claims_written(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the claims of an answer in JSON that came to its end; none when it says that there is no answer."""
    written = json.loads(exchange.written)
    return list(written["claims"]) if written["answerable"] else []


def numbers_allowed(schema: object, name: str) -> list[int]:
    """Return the numbers that a schema admits for ``name``, wherever it stands in it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and name in schema["properties"]:
            return list(schema["properties"][name]["enum"])
        schema = list(schema.values())
    found = (numbers_allowed(one, name) for one in schema) if isinstance(schema, list) else ()
    return next((one for one in found if one), [])


def assert_numbers_limited(exchange: Exchange) -> None:
    """The schema that was sent admits the passages of the prompt and no others, and the server kept to it."""
    sent = exchange.sent["response_format"]
    assert (sent["type"], sent["json_schema"]["strict"]) == ("json_schema", True)
    assert numbers_allowed(exchange.schema, "passage") == sorted(exchange.passages)
    for name, pattern in _NUMBER.items():
        assert {int(n) for n in pattern.findall(exchange.written)} <= set(numbers_allowed(exchange.schema, name))


def assert_one_sentence(error: LockstepError | str, *words: str) -> None:
    """A message that helps: one line, with what to look at, and no secret in it."""
    message = str(error)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert API_KEY not in message
