"""The automations of a pipeline on a real Prefect server: registered once, a person's changes kept, and they fire."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from deployments.environment import Environment
from tasks.errors import MisuseError
from tests.support.automation_runs import KEYS
from tests.support.servers import ROOT, Server, free_port, tool

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation

SILENCE_SECONDS = 10.0
"""The least that Prefect allows. Real runs beat every 180 s and have 540 s."""


class Inbox:
    """A web hook that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def about(self, word: str) -> list[dict[str, str]]:
        return [one for one in self.messages if word in one["subject"]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def server_in(home: Path, database: Path) -> Server:
    """Return a Prefect server with all its services, and the one setting of the embedded server that matters here."""
    shutil.copy(database, home / "prefect.db")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    set_here = {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D",
    }  # fmt: skip
    argv = [tool("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    env = {**without_prefect(), **set_here}
    return Server(argv, home / "prefect.log", lambda: urllib.request.urlopen(f"{url}/health"), url, 120, env)


def without_prefect() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


@pytest.fixture(scope="module")
def api(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server, which this process uses too."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = server_in(tmp_path_factory.mktemp("prefect"), prefect_database).start()
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield server.url
    server.stop()


@pytest.fixture
def client(api: str) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


@pytest.fixture
def pipeline() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


def hook(name: str, url: str) -> str:
    """Save a real notification block. Return what LOCKSTEP_NOTIFY_BLOCK would be."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    block = CustomWebhookNotificationBlock(
        name=name, url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}, secrets={"token": "geheim"}
    )
    block.save(name, overwrite=True)
    return f"custom-webhook/{name}"


def registered(client: SyncPrefectClient, pipeline: str) -> list[Automation]:
    return [one for one in client.read_automations() if one.name.startswith(f"{pipeline}: ")]


def start(api: str, pipeline: str, what: str) -> subprocess.Popen[str]:
    env = {**without_prefect(), "PREFECT_API_URL": api, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.automation_runs", pipeline, what],
        env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def run_id(process: subprocess.Popen[str]) -> UUID:
    assert process.stdout
    return UUID(process.stdout.readline().strip())


def eventually(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.3)
    return found


def has_beaten(client: SyncPrefectClient, run: UUID) -> bool:
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])


def test_registering_twice_changes_nothing(client: SyncPrefectClient, pipeline: str, tmp_path: Path) -> None:
    from deployments.automations import ensure_automations

    lines: list[str] = []
    env = Environment(home=tmp_path / "home")
    for _ in range(2):
        rows = ensure_automations(env, pipeline, lines.append)
        assert {row.state for row in rows} == {"current"}
    assert lines == ["automations: 4 created", "automations: unchanged"]
    found = registered(client, pipeline)
    assert len(found) == 4
    assert all("lockstep" in one.tags and one.enabled for one in found)
    ensure_automations(env, f"{pipeline}-2", lines.append)
    assert registered(client, pipeline) == found, "another pipeline has automations of its own"


def test_what_a_person_has_changed_stays(client: SyncPrefectClient, pipeline: str, tmp_path: Path) -> None:
    """The definitions change, as they do with another version of Lockstep or another notification block."""
    from deployments.automations import apply, compare

    apply(compare(client, pipeline, None, 540.0))
    crashed, *_ = registered(client, pipeline)
    failed = next(one for one in registered(client, pipeline) if "failed" in one.name)
    assert crashed.name.endswith("a silent run has crashed")
    client.pause_automation(crashed.id)
    # What the edit page of Prefect's UI sends: no tags.
    edited = failed.model_dump(mode="json", include={"name", "description", "enabled", "trigger", "actions"})
    edited["trigger"]["within"] = 60
    client.request("PUT", f"/automations/{failed.id}", json=edited)

    rows = compare(client, pipeline, None, 600.0)
    assert [row.state for row in rows] == ["outdated", "edited", "current", "current"]
    apply(rows)
    after = {one.id: one for one in registered(client, pipeline)}
    assert len(after) == 4
    assert after[crashed.id].enabled is False
    assert after[crashed.id].trigger.within.total_seconds() == 600  # type: ignore[union-attr]
    assert after[failed.id].trigger.within.total_seconds() == 60  # type: ignore[union-attr]
    assert [row.state for row in compare(client, pipeline, None, 600.0)] == ["current", "edited", "current", "current"]

    client.delete_automation(failed.id)
    apply(compare(client, pipeline, None, 600.0))
    assert {row.state for row in compare(client, pipeline, None, 600.0)} == {"current"}


def test_a_shell_without_the_variable_does_not_end_notifications(
    client: SyncPrefectClient, pipeline: str, tmp_path: Path
) -> None:
    from deployments.automations import ensure_automations

    lines: list[str] = []
    ensure_automations(Environment(home=tmp_path), pipeline, lines.append)
    named = hook(f"{pipeline}-a", "http://127.0.0.1:9/")
    ensure_automations(Environment(home=tmp_path, notify_block=named), pipeline, lines.append)
    ensure_automations(Environment(home=tmp_path), pipeline, lines.append)
    assert lines == ["automations: 4 created", "automations: 3 changed", "automations: unchanged"]
    kinds = [one.actions[0].type for one in registered(client, pipeline)]
    assert sorted(kinds) == ["change-flow-run-state", *["send-notification"] * 3]


def test_a_block_that_cannot_notify_is_refused(client: SyncPrefectClient, pipeline: str, tmp_path: Path) -> None:
    from prefect.blocks.system import Secret

    from deployments.automations import ensure_automations

    Secret(value="geheim").save(pipeline)
    for named, told in ((f"slack-webhook/{pipeline}", "has no block"), (f"secret/{pipeline}", "sends no notif")):
        with pytest.raises(MisuseError, match=f"{told}.*LOCKSTEP_NOTIFY_BLOCK|{named}.*{told}"):
            ensure_automations(Environment(home=tmp_path, notify_block=named), pipeline, lambda _line: None)
    assert registered(client, pipeline) == []


def test_a_person_is_told_of_what_goes_wrong(api: str, client: SyncPrefectClient, pipeline: str, inbox: Inbox) -> None:
    """A failed sync, new objects in quarantine, a lagging index, and a run whose process was killed."""
    from deployments.automations import apply, compare, notification_block

    block = notification_block(client, hook(pipeline, inbox.url))
    apply(compare(client, pipeline, block, SILENCE_SECONDS))
    others = [start(api, pipeline, what) for what in ("quarantine", "lag")]
    hanging = start(api, pipeline, "hang")
    hung = run_id(hanging)
    eventually(lambda: has_beaten(client, hung))
    hanging.kill()
    hanging.wait(10)

    def state() -> Any:
        return client.read_flow_run(hung).state

    eventually(lambda: state().is_crashed())
    assert state().message.startswith(f"Lockstep heard no heartbeat of this run for {SILENCE_SECONDS:g} s.")
    (crash,) = eventually(lambda: inbox.about("Crashed"))
    link = f"{api.removesuffix('/api')}/runs/flow-run/"
    assert crash["subject"] == f"Lockstep: sync/{pipeline} ended as Crashed"
    assert "no heartbeat" in crash["body"]
    assert crash["body"].endswith(f"{link}{hung}")

    (quarantined,) = eventually(lambda: inbox.about("quarantine"))
    assert quarantined["subject"] == f"Lockstep: 12 new in the quarantine of {pipeline}"
    assert [line for line in quarantined["body"].splitlines() if line in KEYS] == KEYS[:10]
    assert "…\n" in quarantined["body"]
    assert f"{link}{run_id(others[0])}" in quarantined["body"]

    (lags,), (caught_up,) = eventually(lambda: inbox.about("lags")), eventually(lambda: inbox.about("caught up"))
    assert "125.0 s behind its bucket. The bound is 60.0 s." in lags["body"]
    assert "3.0 s behind" in caught_up["body"]
    assert [process.wait(60) for process in others] == [0, 0]
    assert "geheim" not in json.dumps(inbox.messages)


def test_failures_are_told_once_an_hour(api: str, client: SyncPrefectClient, pipeline: str, inbox: Inbox) -> None:
    """The real sync, of a pipeline that does not exist: twice, as the schedule does in an outage."""
    from deployments.automations import apply, compare, notification_block

    block = notification_block(client, hook(pipeline, inbox.url))
    apply(compare(client, pipeline, block, 540.0))
    runs = []
    for _ in range(2):
        process = start(api, pipeline, "fail")
        runs.append(run_id(process))
        process.wait(60)
    assert [client.read_flow_run(run).state_name for run in runs] == ["Failed", "Failed"]
    start(api, pipeline, "lag").wait(60)
    eventually(lambda: inbox.about("caught up"))  # Prefect takes events in their order: no failure comes after this
    (failed,) = inbox.about("ended as")
    assert failed["subject"] == f"Lockstep: sync/{pipeline} ended as Failed"
    assert f"there is no pipeline '{pipeline}'" in failed["body"]
    assert str(runs[0]) in failed["body"]


@pytest.mark.long
def test_a_failure_after_the_hour_is_told_again(
    api: str, client: SyncPrefectClient, pipeline: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour is over for long: Prefect still remembers it, and must not take the failure for a part of it."""
    from deployments.automations import apply, compare, notification_block

    monkeypatch.setattr("deployments.automations.FAILURES_EVERY", timedelta(seconds=2))
    block = notification_block(client, hook(pipeline, inbox.url))
    apply(compare(client, pipeline, block, 540.0))
    for told in (1, 2):
        start(api, pipeline, "fail").wait(60)
        eventually(lambda told=told: len(inbox.messages) == told)
        time.sleep(5)


def test_a_false_alarm_ends_no_run(api: str, client: SyncPrefectClient, pipeline: str) -> None:
    """What the action does is done by hand: to a run that is alive, and to one that has ended."""
    from prefect.states import Crashed

    process = start(api, pipeline, "doze")
    run = run_id(process)
    eventually(lambda: client.read_flow_run(run).state_name == "Running")
    assert client.set_flow_run_state(run, Crashed()).status == "ACCEPT"
    assert process.wait(60) == 0
    assert client.read_flow_run(run).state_name == "Completed"
    assert client.set_flow_run_state(run, Crashed()).status == "ABORT"
    assert client.read_flow_run(run).state_name == "Completed"


@pytest.mark.long
def test_a_run_that_died_with_its_server_is_marked_when_that_is_back(
    prefect_database: Path, tmp_path: Path, pipeline: str
) -> None:
    """As after a reboot. Prefect's own setting forgets the run when the server was away for a minute too long."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from deployments.automations import apply, compare

    server = server_in(tmp_path, prefect_database).start()
    try:
        with temporary_settings({PREFECT_API_URL: server.url}), get_client(sync_client=True) as client:
            apply(compare(client, pipeline, None, SILENCE_SECONDS))
            process = start(server.url, pipeline, "hang")
            run = run_id(process)
            eventually(lambda: has_beaten(client, run))
            process.kill()
            server.kill()
            time.sleep(SILENCE_SECONDS + 70)
            server.start()
            eventually(lambda: client.read_flow_run(run).state_name == "Crashed")
    finally:
        server.stop()


@pytest.mark.long
def test_a_run_that_beats_lives(api: str, client: SyncPrefectClient, pipeline: str) -> None:
    """Longer than the silence, with the shortest heartbeat that Prefect allows: 30 s."""
    from deployments.automations import apply, compare

    apply(compare(client, pipeline, None, 45.0))
    process = start(api, pipeline, "beat")
    run = run_id(process)
    assert process.wait(200) == 0
    (state,) = [one.name for one in client.read_flow_run_states(run) if one.is_final()]
    assert state == "Completed"
