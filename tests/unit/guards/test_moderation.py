"""What an endpoint's answer means, and who gets which key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from blocks.chat_model import ChatModel
from blocks.settings import Settings
from tasks.guards.moderation import UNNAMED, categories, key_for


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([{"flagged": False, "categories": {"violence": False}}], ()),
        ([{"flagged": False, "categories": {"violence": True}}], ()),
        ([{"flagged": True, "categories": {"violence": True, "hate": True, "sexual": False}}], ("hate", "violence")),
        ([{"flagged": True, "categories": {"hate": True}}, {"flagged": True, "categories": {"hate": True}}], ("hate",)),
        ([{"flagged": True}], (UNNAMED,)),
        ([{"flagged": True, "categories": {"a\x1b[2J\nb" + "c" * 99: True}}], ("a[2J b" + "c" * 54,)),
    ],
)
def test_categories_are_those_of_flagged_results(told: list[Any], expected: tuple[str, ...]) -> None:
    assert categories({"results": told}) == expected


@pytest.mark.parametrize("told", [{}, [], None, {"results": []}, {"results": [{}]}, {"results": [{"flagged": "no"}]}])
def test_other_answers_are_no_verdict(told: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        categories(told)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://gateway:4000/v1", "a-key"), ("http://gateway:4000/other/v1", "a-key"), ("http://gateway/v1", ""),
        ("https://gateway:4000/v1", ""), ("http://elsewhere:4000/v1", ""),
    ],
)  # fmt: skip
def test_the_chat_models_key_goes_to_its_own_server_alone(url: str, key: str) -> None:
    chat = ChatModel(base_url="http://gateway:4000/v1", api_key=SecretStr("a-key"))
    assert key_for(url, chat) == key
    assert key_for(url, None) == key_for(url, ChatModel(base_url="http://gateway:4000/v1")) == ""


@pytest.mark.parametrize("url", ["gateway:4000/v1", "ftp://gateway/v1", "http://", "http://a b"])
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(ValidationError, match="moderation_url"):
        Settings(moderation_url=url)
