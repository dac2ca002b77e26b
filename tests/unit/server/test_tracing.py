"""Whether traces are sent anywhere, and what is said when they cannot be."""

from __future__ import annotations

import sys

import pytest

from deployments.server.observability import tracing
from tasks.errors import MisuseError


def test_without_a_collector_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.begin("")()


def test_a_collector_without_the_extra_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MisuseError, match=r"pip install 'lockstep\[otel\]'"):
        tracing.begin("http://127.0.0.1:4318")
