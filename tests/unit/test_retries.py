"""What is tried again, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Failed

from tasks.errors import (
    GoneError,
    LockstepError,
    MisuseError,
    OutageError,
    PartError,
    PermanentError,
    TransientError,
    UnsuitableError,
    is_transient,
)
from tasks.retries import patiently

LASTING = [LockstepError, GoneError, MisuseError, OutageError, PartError, PermanentError, UnsuitableError, ValueError]


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))


def stumbling(times: int, kind: type[Exception], asked: list[int]) -> Any:
    def call() -> str:
        asked.append(1)
        if len(asked) <= times:
            raise kind("it is restarting")
        return "answered"

    return call


@pytest.mark.parametrize("kind", LASTING)
def test_only_a_transient_error_is_worth_another_try(kind: type[Exception]) -> None:
    assert is_transient(None, None, Failed(data=TransientError("it is restarting")))
    assert not is_transient(None, None, Failed(data=kind("no")))


def test_a_flows_own_call_survives_five_stumbles() -> None:
    asked: list[int] = []
    assert patiently(stumbling(5, TransientError, asked))() == "answered"


@pytest.mark.parametrize("kind", LASTING)
def test_a_flows_own_call_tries_nothing_else_again(kind: type[Exception]) -> None:
    asked: list[int] = []
    with pytest.raises(kind):
        patiently(stumbling(1, kind, asked))()
    assert len(asked) == 1
