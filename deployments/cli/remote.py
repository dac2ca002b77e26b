"""Have the running service answer: in milliseconds, for this process loads no model and opens no connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deployments import state
from tasks.errors import LockstepError, MisuseError, PartError, TransientError

if TYPE_CHECKING:
    from deployments.environment import Environment

PATIENCE_SECONDS = 600.0
"""Longer than any answer takes: the service has the limits."""
SLOW = "answered without the service: `lockstep up` starts it, and questions then take milliseconds"


def service_url(env: Environment) -> str | None:
    """Return the address of this home's service, if it runs."""
    from deployments.local.processes import running

    record = state.load(env.home).records.get("service")
    return record.url if record and running(record) else None


def call(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what the service answers to a request. Raises the error that it tells."""
    with closing(_connection(url)) as connection:
        answer = _send(connection, url, path, body)
        return dict(_whole(answer, answer.status))


def events(url: str, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of an answer that is streamed. Raises the error that the service tells."""
    with closing(_connection(url)) as connection:
        answer = _send(connection, url, path, body)
        if answer.status != http.client.OK:
            _whole(answer, answer.status)
        name = ""
        for line in answer:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                told = json.loads(text.removeprefix("data: "))
                if name == "error":
                    raise error_of(told["error"])
                yield name, told


def error_of(told: dict[str, Any]) -> LockstepError:
    """Return the error that the service tells, of the kind that decides about the command's exit code."""
    kind = MisuseError if told["type"] in ("invalid_request_error", "not_found_error", "conflict_error") else PartError
    return kind(told["message"])


def _connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)


def _send(
    connection: http.client.HTTPConnection, url: str, path: str, body: dict[str, Any]
) -> http.client.HTTPResponse:
    given = {name: value for name, value in body.items() if value not in (None, "")}
    try:
        connection.request("POST", path, json.dumps(given), {"content-type": "application/json"})
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(
            f"Service: {url} does not answer ({type(error).__name__}). See `lockstep status` and its log."
        ) from error


def _whole(answer: http.client.HTTPResponse, status: int) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TransientError(f"Service: its answer broke off ({type(error).__name__}). See its log.") from error
    if status != http.client.OK:
        raise error_of(told["error"])
    return told
