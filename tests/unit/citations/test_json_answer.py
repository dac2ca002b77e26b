"""Answers as JSON: the schema, what is no such JSON, what is complete of one that broke off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.citations.json_answer import (
    MOST_CITATIONS,
    MOST_CLAIMS,
    Claimed,
    Structured,
    answer_schema,
    assignment_schema,
    complete,
    drafts,
    parse,
    refuses,
)  # fmt: skip
from tests.support.chat_server import claims

THREE = claims(('One {["x\\ \u2028', [(1, "a }] quote")]), ("Two.", []), ("Three.", [(2, "b"), (3, "c")]))


def test_the_schema_ends_and_names_only_what_was_shown() -> None:
    schema = answer_schema(3)
    claim = schema["properties"]["claims"]["items"]
    citations = claim["properties"]["citations"]
    assert schema["required"] == ["answerable", "claims"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["claims"]["maxItems"] == MOST_CLAIMS
    assert (citations["minItems"], citations["maxItems"]) == (1, MOST_CITATIONS)
    assert citations["items"]["properties"]["passage"] == {"type": "integer", "enum": [1, 2, 3]}
    assert claim["properties"]["text"]["maxLength"] > citations["items"]["properties"]["quote"]["maxLength"] > 0
    assert claim["properties"]["text"]["minLength"] >= 1
    assert citations["items"]["properties"]["quote"]["minLength"] >= 1, "nothing is quoted by an empty string"


def test_the_schema_of_citations_names_each_sentence_and_has_room_for_one_entry_each() -> None:
    sentences = assignment_schema(2, 3)["properties"]["sentences"]
    assert sentences["maxItems"] == 2
    assert sentences["items"]["properties"]["sentence"]["enum"] == [1, 2]
    citations = sentences["items"]["properties"]["citations"]
    assert (citations["minItems"], citations["maxItems"]) == (0, MOST_CITATIONS), "a sentence may rest on nothing"
    assert citations["items"]["properties"]["passage"]["enum"] == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
     "", "Plain text [1].", "[]", "null", "{}", '{"claims": "none"}', '{"claims": [{"text": ""}]}', THREE[:-1],
     THREE + "x",
     '{"claims": [{"text": "t", "citations": [{"passage": "one"}]}]}', '{"claims": [{"text": "t", "citations": [1]}]}',
     '{"claims":' * 1000, "<html>"],
)  # fmt: skip
def test_what_is_not_that_json_is_none(text: str) -> None:
    assert parse(Structured, text) is None


@pytest.mark.parametrize("around", ["{}", "\n {} ", "```json\n{}\n```", "```\n{}```"])
def test_what_models_put_around_json_is_forgiven(around: str) -> None:
    whole = parse(Structured, around.replace("{}", THREE))
    assert whole
    assert len(whole.claims) == 3


def test_half_a_character_is_replaced() -> None:
    half = '{"claims": [{"text": "a\\ud800b \\ud83d\\ude00", "citations": [{"passage": 1, "quote": "\\udc00"}]}]}'
    whole = parse(Structured, half)
    assert whole
    assert (whole.claims[0].text, whole.claims[0].citations[0].quote) == ("a?b 😀", "?")
    assert complete(Claimed, "claims", half[:-1]) == whole.claims


def test_of_json_that_broke_off_the_complete_claims_are_kept() -> None:
    counts = [len(complete(Claimed, "claims", THREE[:end])) for end in range(len(THREE) + 1)]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}
    assert complete(Claimed, "claims", THREE) == parse(Structured, THREE).claims  # type: ignore[union-attr]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), st.lists(st.tuples(st.integers(), st.text(max_size=9))))),
       st.data())  # fmt: skip
def test_a_cut_never_makes_up_a_claim(made: list[tuple[str, list[tuple[int, str]]]], data: st.DataObject) -> None:
    text = claims(*made)
    cut = text[: data.draw(st.integers(0, len(text)))]
    whole = parse(Structured, text)
    assert whole
    found = complete(Claimed, "claims", cut)
    assert found == whole.claims[: len(found)]


def test_an_array_within_a_text_is_not_taken_for_the_claims() -> None:
    assert complete(Claimed, "claims", '{"answerable": true, "note": "\\"claims\\": [{\\"text\\": \\"no\\"}]"') == []


@pytest.mark.parametrize(
    ("text", "does"),
    [('{"answerable": false', True),
     (' {\n"answerable" : false, "claims": [', True), ('{"answerable": true', False), ("", False)],
)  # fmt: skip
def test_json_that_refuses_is_known_before_its_end(text: str, does: bool) -> None:
    assert refuses(text) is does


def test_claims_become_drafts_that_cite_only_by_their_citations() -> None:
    made = json.loads(claims(("Two\n lines [3].", [(2, "b")]), (" [1] ", [(1, "x")])))
    (one,) = drafts(Structured.model_validate(made).claims)
    assert one.text == "Two lines."
    assert [(cited.passage, cited.quote) for cited in one.cited] == [(2, "b")]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"claims": [' * 100_000, '{"claims": [{"text": "a"}, ' + '{"a":' * 100_000, "{" + " " * 100_000],
    ids=["arrays", "objects", "an item", "white space"],
)
def test_json_nested_without_end_is_none_and_ends(text: str) -> None:
    assert parse(Structured, text) is None
    assert [one.text for one in complete(Claimed, "claims", text)] in ([], ["a"])
    assert not refuses(text)
