"""The Prefect automations of a pipeline as data, and their registration, which keeps a person's own changes.

    <pipeline>: a silent run has crashed         no heartbeat for 9 minutes  → the run becomes Crashed
    <pipeline>: a sync or an audit failed        Failed, Crashed             → notification, one an hour for each flow
    <pipeline>: objects went into quarantine     an event of flows/events.py → notification
    <pipeline>: the index lags or has caught up  events of flows/events.py   → notification

    missing ──▶ created     outdated ──▶ rewritten, still disabled if it was     edited, current ──▶ left alone

A tag holds a digest of the definition that Lockstep last wrote. If the automation no longer has that digest, a person
has edited it. Prefect's UI drops the tags of what it saves, which says the same. Without a notification block, the
last three do nothing but appear in Prefect's event feed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from prefect.automations import (
    Automation,
    AutomationCore,
    ChangeFlowRunState,
    DoNothing,
    EventTrigger,
    Posture,
    SendNotification,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.filters import AutomationFilter, AutomationFilterName
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from deployments.environment import Environment
from deployments.state import exclusive
from flows.events import CAUGHT_UP, LAGGING, QUARANTINED, resource_of
from tasks.errors import MisuseError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation as Found

TAG = "lockstep"
MARK = "definition:"
BEATS = 3
"""Heartbeats that a run may miss."""
HEARTBEAT_SECONDS = 180
"""Prefect's own default, for a process whose heartbeats are off."""
FAILURES_EVERY = timedelta(hours=1)
"""The sync runs every 5 minutes. In an outage each of them fails."""
LINK = "{{ flow_run | ui_url or '' }}"
State = Literal["missing", "current", "outdated", "edited"]


@dataclass(frozen=True)
class Row:
    """A definition beside the automation of its name in Prefect, if there is one.

    The state is ``outdated`` if Lockstep wrote another definition, and ``edited`` if a person changed the automation.
    """

    definition: AutomationCore
    found: Found | None

    @property
    def state(self) -> State:
        """Return how the automation differs from its definition."""
        if self.found is None:
            return "missing"
        if digest(self.found) == digest(self.definition):
            return "current"
        return "outdated" if written_by_us(self.found) else "edited"

    def as_json(self) -> dict[str, Any]:
        """Return the row as the command prints it."""
        shown = self.found or self.definition
        actions = [action.type for action in shown.actions]
        return {"name": shown.name, "state": self.state, "enabled": shown.enabled, "actions": actions}


def definitions(pipeline: str, block: UUID | None, silence_seconds: float) -> list[AutomationCore]:
    """Return the automations of a pipeline. ``block`` is the id of the notification block, if there is one.

    ``silence_seconds`` is the time without an event after which a run counts as dead.
    """
    silent = EventTrigger(
        posture=Posture.Proactive,
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        # A heartbeat names no deployment, only its id. Sub-flows have no tags, and no heartbeat of their own to miss.
        match_related=[{"prefect.resource.id": f"prefect.tag.{tag}"} for tag in (TAG, pipeline)],
        within=timedelta(seconds=silence_seconds),
    )
    failed = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
        for_each={"related:flow:prefect.resource.id"},
        match_related=[
            {"prefect.resource.role": "deployment", "prefect.resource.name": pipeline},
            {"prefect.resource.role": "flow", "prefect.resource.name": ["sync", "audit"]},
        ],
        within=FAILURES_EVERY,
    )
    return [
        _definition(
            f"{pipeline}: a silent run has crashed",
            f"A run of {pipeline} that sends no heartbeat for {silence_seconds:g} s becomes Crashed.",
            silent,
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"Lockstep heard no heartbeat of this run for {silence_seconds:g} s. Its process or its "
                "machine died, or it could not reach Prefect. The index is as the run left it, and the next run "
                "finishes the work. Look for the end of the process in the worker's log. If the run is still alive, "
                "it goes on.",
            ),
        ),
        _definition(
            f"{pipeline}: a sync or an audit failed",
            f"A run of the deployments sync/{pipeline} or audit/{pipeline} failed. At most once an hour for each.",
            failed,
            _notify(
                block,
                f"Lockstep: {{{{ flow.name }}}}/{pipeline} ended as {{{{ flow_run.state.name }}}}",
                "{{ flow_run.name }}\n{{ (flow_run.state.message or '') | truncate(1000) }}\n" + LINK,
            ),
        ),
        _definition(
            f"{pipeline}: objects went into quarantine",
            f"A sync of {pipeline} met objects that cannot be indexed.",
            EventTrigger(expect={QUARANTINED}, match=_of(pipeline)),
            _notify(
                block,
                f"Lockstep: {{{{ event.payload.number }}}} new in the quarantine of {pipeline}",
                "{{ flow_run.name }}\n{{ event.payload.objects | join('\\n') }}\n"
                "{% if event.payload.number > event.payload.objects | length %}…\n{% endif %}"
                f"`lockstep quarantine list --pipeline {pipeline}` shows the reasons.\n" + LINK,
            ),
        ),
        _definition(
            f"{pipeline}: the index lags or has caught up",
            f"The index of {pipeline} fell further behind its bucket than its bound, or is within it again.",
            EventTrigger(expect={LAGGING, CAUGHT_UP}, match=_of(pipeline)),
            _notify(
                block,
                f"Lockstep: {pipeline} {{{{ 'lags' if event.event == '{LAGGING}' else 'has caught up' }}}}",
                f"The index of {pipeline} is {{{{ event.payload.seconds }}}} s behind its bucket. The bound is "
                "{{ event.payload.bound_seconds }} s.\n`lockstep status` shows which part is down.\n" + LINK,
            ),
        ),
    ]


def silence_seconds() -> float:
    """Return the time after which a run counts as dead, by the heartbeats that are set in this process."""
    return float(BEATS * (get_current_settings().flows.heartbeat_frequency or HEARTBEAT_SECONDS))


def compare(client: SyncPrefectClient, pipeline: str, block: UUID | None, silence_seconds: float) -> list[Row]:
    """Return a pipeline's definitions beside what Prefect has, with one request.

    Without a block, the one is kept that Lockstep's automations have now. So a command in a shell without the variable
    does not end the notifications.
    """
    names = [one.name for one in definitions(pipeline, None, silence_seconds)]
    there = client.read_automations(automations=AutomationFilter(name=AutomationFilterName(any_=names)))
    kept = [
        action.block_document_id
        for automation in there
        if written_by_us(automation)
        for action in automation.actions
        if isinstance(action, SendNotification)
    ]
    wanted = definitions(pipeline, block or next(iter(kept), None), silence_seconds)
    found = {automation.name: automation for automation in there}
    return [Row(one, found.get(one.name)) for one in wanted]


def apply(rows: Sequence[Row]) -> None:
    """Create the missing automations and rewrite the outdated ones. A disabled automation stays disabled."""
    for row in rows:
        if row.state == "missing":
            Automation(**row.definition.model_dump()).create()
        elif row.state == "outdated" and row.found:
            changes = {"id": row.found.id, "enabled": row.found.enabled}
            Automation(**{**row.definition.model_dump(), **changes}).update()


def ensure_automations(env: Environment, pipeline: str, report: Callable[[str], None]) -> list[Row]:
    """Register the automations of a pipeline, and return what is there then. Reports one line.

    Raises ``MisuseError`` if Prefect does not have the notification block that the environment names.
    """
    env.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(env.home, report, lock="registered.lock"), get_client(sync_client=True) as client:
        wanted = (pipeline, notification_block(client, env.notify_block), silence_seconds())
        rows = compare(client, *wanted)
        apply(rows)
        report(summary(rows))
        changed = any(row.state in ("missing", "outdated") for row in rows)
        return compare(client, *wanted) if changed else rows


def summary(rows: Sequence[Row]) -> str:
    """Return in one line what registering these rows does."""
    count = Counter(row.state for row in rows)
    told: dict[State, str] = {
        "missing": "created",
        "outdated": "changed",
        "edited": "edited by a person and left alone",
    }
    return "automations: " + (
        ", ".join(f"{count[state]} {what}" for state, what in told.items() if count[state]) or "unchanged"
    )


def notification_block(client: SyncPrefectClient, named: str | None) -> UUID | None:
    """Return the id of the notification block of that type and name, TYPE/NAME; None without a name."""
    if not named:
        return None
    kind, _, name = named.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound as error:
        raise MisuseError(
            f"Prefect has no block {named}, which LOCKSTEP_NOTIFY_BLOCK names. Create it in the Prefect UI under "
            "Blocks, or correct the variable: the type of the block, a slash and its name."
        ) from error
    if document.block_schema is None or "notify" not in document.block_schema.capabilities:
        raise MisuseError(
            f"The block {named}, which LOCKSTEP_NOTIFY_BLOCK names, sends no notifications. Name a block of Slack, "
            "Microsoft Teams, PagerDuty, Custom Webhook or another notification type."
        )
    return document.id


def written_by_us(automation: AutomationCore) -> bool:
    """Return whether the automation is as Lockstep last wrote it."""
    return f"{MARK}{digest(automation)}" in automation.tags


def digest(automation: AutomationCore) -> str:
    """Return a digest of what the automation does. Fields that Prefect adds later, with a default, do not count."""
    parts = [automation.trigger, *automation.actions]
    does = [(part.type, part.model_dump(exclude_defaults=True)) for part in parts]
    text = json.dumps([automation.description, does], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: object) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def _definition(name: str, description: str, trigger: EventTrigger, action: Any) -> AutomationCore:
    made = AutomationCore(name=name, description=description, trigger=trigger, actions=[action])
    return made.model_copy(update={"tags": [TAG, f"{MARK}{digest(made)}"]})


def _of(pipeline: str) -> dict[str, str]:
    return {"prefect.resource.id": resource_of(pipeline)["prefect.resource.id"]}


def _notify(block: UUID | None, subject: str, body: str) -> SendNotification | DoNothing:
    return SendNotification(block_document_id=block, subject=subject, body=body) if block else DoNothing()
