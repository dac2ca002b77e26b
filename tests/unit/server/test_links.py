"""Links to passages: what was signed opens, and nothing else does."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from deployments.server.access.links import LIFETIME_SECONDS, Links, Passage

PASSAGE = Passage("docs", "a/b é", "acme", (44, 59))


def arguments(path: str) -> dict[str, str]:
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    names = ("pipeline", "tenant", "at", "until", "sig")
    return {"chunk_id": unquote(parts.path.removeprefix("/passages/")), **{name: query.get(name, "") for name in names}}


@pytest.mark.parametrize("passage", [PASSAGE, Passage("docs", "c1")])
def test_a_link_leads_to_its_passage(passage: Passage) -> None:
    assert Links("secret").opened(**arguments(Links("secret").path(passage))) == passage


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_id": "other"}, {"pipeline": "other"}, {"tenant": ""}, {"tenant": "other"}, {"at": "0-59"}, {"at": ""},
        {"until": "99999999999"}, {"until": ""}, {"sig": ""}, {"sig": "0" * 64}, {"sig": "é"},
    ],
)  # fmt: skip
def test_a_changed_link_leads_nowhere(change: dict[str, str]) -> None:
    assert Links("secret").opened(**{**arguments(Links("secret").path(PASSAGE)), **change}) is None


def test_a_link_of_another_home_leads_nowhere() -> None:
    assert Links("other").opened(**arguments(Links("secret").path(PASSAGE))) is None


def test_a_link_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    made = arguments(Links("secret").path(PASSAGE))
    at = int(made["until"])
    monkeypatch.setattr("time.time", lambda: at + 1)
    assert Links("secret").opened(**made) is None
    monkeypatch.setattr("time.time", lambda: at - LIFETIME_SECONDS + 1)
    assert Links("secret").opened(**made) == PASSAGE
