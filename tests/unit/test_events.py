"""The events that automations react to."""

from __future__ import annotations

from typing import Any

import pytest

from flows import events

Told = list[tuple[str, dict[str, str], dict[str, Any]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found: Told = []

    def emit(event: str, *, resource: dict[str, str], payload: dict[str, Any]) -> None:
        found.append((event, resource, payload))

    monkeypatch.setattr(events, "emit_event", emit)
    return found


def test_objects_in_quarantine_are_counted_and_the_first_named(told: Told) -> None:
    keys = ["a\nb.pdf", "http://root:geheim@host/www.evil.example.md", *(f"{n:02}.pdf" for n in range(20))]
    events.emit_quarantined("docs", "docs_g0001", len(keys), keys)
    ((event, resource, payload),) = told
    assert event == "lockstep.objects.quarantined"
    assert resource == {"prefect.resource.id": "lockstep.pipeline.docs", "prefect.resource.name": "docs"}
    assert (payload["number"], payload["collection"], len(payload["objects"])) == (22, "docs_g0001", 10)
    assert payload["objects"][0] == "a b.pdf", "no key imitates a line of ours"
    assert "geheim" not in payload["objects"][1]
    assert "www.evil" not in payload["objects"][1], "a reader of the message makes no link of it"


def test_no_new_object_is_no_event(told: Told) -> None:
    events.emit_quarantined("docs", "docs_g0001", 0, [])
    assert told == []


def test_a_lag_and_its_end_are_told_with_the_bound(told: Told) -> None:
    events.emit_lagging("docs", 125.04, 60)
    events.emit_caught_up("docs", 3, 60)
    assert [event for event, *_ in told] == ["lockstep.index.lagging", "lockstep.index.caught_up"]
    assert told[0][2] == {"seconds": 125.0, "bound_seconds": 60}
