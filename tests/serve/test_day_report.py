"""The report of the day in a real Prefect server: as the ledger has it, one for each day, and never in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.server.records import day_report
from deployments.server.records.day_report import day_of
from tasks.ledger.database import now
from tests.serve.conftest import QUESTION, Index, serving
from tests.support.servers import free_port


def artifacts(name: str, happens: Callable[[list[Any]], bool] = bool) -> list[Any]:
    """Return the reports of a pipeline once they are as they have to be."""
    wanted, until = ArtifactFilter(key=ArtifactFilterKey(any_=[f"answers-{name}"])), time.monotonic() + 15
    with get_client(sync_client=True) as client:
        while not happens(found := client.read_artifacts(artifact_filter=wanted)):
            assert time.monotonic() < until, [one.data for one in found]
            time.sleep(0.2)
    return found


def test_a_day_has_one_report_that_outlives_a_restart(index: Index) -> None:
    name = index.make(name="reported-days")
    body = {"question": QUESTION, "pipeline": name}
    with serving(index.name) as service, service.client() as client:
        told = client.post("/ask", json=body).json()
        (first,) = artifacts(name)
        assert first.type == "markdown"
        assert f"# {name}: {day_of(now())}\n\nQuestions answered by " in first.data
        assert "| extractive | 1 | 100.0% |" in first.data
        client.post("/ask", json=body)
        client.post("/feedback", json={"id": told["id"], "verdict": "up", "pipeline": name})
    (second,) = artifacts(name, lambda found: len(found) == 1 and found[0].id != first.id)  # written as it stopped
    assert "| extractive | 2 | 100.0% |" in second.data
    assert "| thumbs up | 1 | 50.0% |" in second.data
    with serving(index.name) as service, service.client() as client:
        client.post("/ask", json={**body, "filter": "key=nothing"})
        found = artifacts(name, lambda found: len(found) == 2)
    newest = max(found, key=lambda one: one.created)
    assert " UTC: 3." in newest.data
    assert "| abstained | 1 | 33.3% |" in newest.data


def test_without_prefect_answers_come_as_fast_and_the_report_later(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = index.make(name="reported-late")
    monkeypatch.setattr(day_report, "EVERY_SECONDS", 0.2)
    fails: list[bool] = []
    publish = day_report.DayReports._publish

    def away(*arguments: Any) -> None:
        if len(fails) < 2:
            fails.append(True)
            with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
                publish(*arguments)
        publish(*arguments)

    monkeypatch.setattr(day_report.DayReports, "_publish", away)
    with serving(index.name) as service, service.client() as client:
        assert client.post("/ask", json={"question": QUESTION, "pipeline": name}).status_code == 200
        (report,) = artifacts(name)
    assert len(fails) == 2
    assert " UTC: 1." in report.data
