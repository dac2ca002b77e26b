"""The automations of a pipeline as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.automations import AutomationCore, DoNothing, EventTrigger, Posture, SendNotification
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from deployments.automations import Row, definitions, digest, silence_seconds, summary, written_by_us
from deployments.environment import load
from tasks.errors import MisuseError

ROOT = Path(__file__).parents[3]
BLOCK = uuid4()


def triggers(pipeline: str = "docs") -> list[EventTrigger]:
    return [one.trigger for one in definitions(pipeline, BLOCK, 540.0) if isinstance(one.trigger, EventTrigger)]


def test_each_is_named_after_its_pipeline_and_tagged() -> None:
    made = definitions("docs", BLOCK, 540.0)
    assert len({one.name for one in made}) == len(made) == 4
    assert all(one.name.startswith("docs: ") and one.description for one in made)
    assert all(one.tags[0] == "lockstep" and written_by_us(one) for one in made)


def test_no_trigger_looks_at_every_event() -> None:
    """An empty `expect` matches all events of the server, and each match costs."""
    assert len(triggers()) == 4
    for trigger in triggers():
        assert trigger.expect
        assert all(name.startswith(("prefect.flow-run.", "lockstep.")) for name in trigger.expect | trigger.after)
        assert trigger.match or trigger.match_related, "only this pipeline"


def test_a_silent_run_is_one_that_missed_three_heartbeats() -> None:
    silent = triggers()[0]
    assert silent.posture == Posture.Proactive
    assert silent.for_each == {"prefect.resource.id"}, "each run for itself"
    for frequency, seconds in ((180, 540.0), (60, 180.0), (None, 540.0)):
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: frequency}):
            assert silence_seconds() == seconds


def test_the_deployments_have_the_tags_that_the_automation_looks_for() -> None:
    specs: Any = triggers("{{ $PIPELINE }}")[0].match_related
    wanted = {spec["prefect.resource.id"][0].removeprefix("prefect.tag.") for spec in specs}
    assert wanted == {"lockstep", "{{ $PIPELINE }}"}
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        assert wanted <= set(deployment["tags"]), deployment["entrypoint"]


def test_without_a_block_the_notifications_do_nothing() -> None:
    assert [type(one.actions[0]) for one in definitions("docs", None, 540.0)[1:]] == [DoNothing] * 3
    with_block = [one.actions[0] for one in definitions("docs", BLOCK, 540.0)[1:]]
    assert all(isinstance(action, SendNotification) and action.block_document_id == BLOCK for action in with_block)


def test_a_digest_survives_the_way_through_prefect() -> None:
    for one in definitions("docs", BLOCK, 540.0):
        again = AutomationCore.model_validate_json(one.model_dump_json())
        assert digest(again) == digest(one)
        assert digest(again.model_copy(update={"enabled": False, "tags": []})) == digest(one), "no part of what it does"
        assert digest(again.model_copy(update={"description": "mine"})) != digest(one)
        assert digest(again.model_copy(update={"actions": []})) != digest(one)


def test_actions_without_fields_differ_by_their_type() -> None:
    from prefect.automations import CancelFlowRun

    first, *_ = definitions("docs", None, 540.0)
    nothing, cancel = (first.model_copy(update={"actions": [kind()]}) for kind in (DoNothing, CancelFlowRun))
    assert digest(nothing) != digest(cancel)


@pytest.mark.parametrize(
    ("silence", "tags", "state"),
    [
        (540.0, None, "current"),
        (540.0, [], "current"),  # saved in the UI without a change
        (600.0, None, "outdated"),
        (600.0, [], "edited"),
        (600.0, ["lockstep", "definition:000000000000"], "edited"),
    ],
)
def test_what_a_person_edited_is_told_from_what_lockstep_wrote(
    silence: float, tags: list[str] | None, state: str
) -> None:
    wanted, found = definitions("docs", None, 540.0)[0], definitions("docs", None, silence)[0]
    found = found.model_copy(update={} if tags is None else {"tags": tags})
    assert Row(wanted, found).state == state  # type: ignore[arg-type]


def test_one_line_says_what_was_registered() -> None:
    first, second, *_ = definitions("docs", None, 540.0)
    other, edited = (definitions("docs", None, 600.0)[0] for _ in range(2))
    edited.tags.clear()
    assert summary([Row(first, None), Row(second, None)]) == "automations: 2 created"
    assert summary([Row(first, first)]) == "automations: unchanged"  # type: ignore[arg-type]
    rows = [Row(first, other), Row(first, edited)]  # type: ignore[arg-type]
    assert summary(rows) == "automations: 1 changed, 1 edited by a person and left alone"


@pytest.mark.parametrize("value", ["ops", "Slack Webhook/ops", "slack-webhook/", "a/b/c"])
def test_a_block_is_named_by_type_and_name(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCKSTEP_NOTIFY_BLOCK", value)
    with pytest.raises(MisuseError, match=r"LOCKSTEP_NOTIFY_BLOCK is .*such as slack-webhook/ops"):
        load()
    monkeypatch.setenv("LOCKSTEP_NOTIFY_BLOCK", "slack-webhook/ops")
    assert load().notify_block == "slack-webhook/ops"
