"""Let the running service answer. Then this process loads no model and opens no connection to Milvus."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deployments import state
from tasks.errors import LockstepError, MisuseError, PartError, TransientError

if TYPE_CHECKING:
    from deployments.environment import Environment

PATIENCE_SECONDS = 600.0
"""No answer takes longer. The service has the limits."""
SLOW = "answered without the service: `lockstep up` starts it, and questions then wait for nothing to load"


@dataclass(frozen=True)
class Service:
    """The running service of a home, and the key with which the home's own commands ask it."""

    url: str
    key: str = field(repr=False)

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the service's answer to a request. Raises the error that the service reports."""
        with closing(self._connection()) as connection:
            answer = self._send(connection, path, body)
            return dict(_whole(answer, answer.status))

    def events(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a streamed answer. Raises the error that the service reports."""
        with closing(self._connection()) as connection:
            yield from _events(self._send(connection, path, body))

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE_SECONDS)

    def _send(
        self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]
    ) -> http.client.HTTPResponse:
        given = {name: value for name, value in body.items() if value not in (None, "")}
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        try:
            connection.request("POST", path, json.dumps(given), headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"Service: {self.url} does not answer ({type(error).__name__}). See `lockstep status` and its log."
            ) from error


def running_service(env: Environment) -> Service | None:
    """Return this home's service if it runs and knows the pipelines of the environment's Prefect server."""
    from deployments.local.processes import serving

    here = state.load(env.home)
    record = here.records.get("service")
    if record is None or record.prefect != (env.prefect_api_url or here.url("prefect")) or not serving(record):
        return None
    return Service(record.url, here.service_key)


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
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
    """Return the error that the service reports, of the kind that decides about the command's exit code."""
    kind = MisuseError if told["type"] in ("invalid_request_error", "not_found_error", "conflict_error") else PartError
    return kind(told["message"])


def _whole(answer: http.client.HTTPResponse, status: int) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TransientError(f"Service: its answer broke off ({type(error).__name__}). See its log.") from error
    if status != http.client.OK:
        raise error_of(told["error"])
    return told
