"""The route that S3 servers notify: it records the keys that a notification names, and then acknowledges it.

    POST /notifications/docs        Authorization: Bearer TOKEN, or Basic with the token for a password, or X-API-Key

A sender may forget what was answered with 2xx. Nothing else is: what the ledger did not take gets a 503. Most senders
try that again, whereas Amazon SNS gives up after most other errors.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deployments.server import schemas
from deployments.server.access.caller import count
from deployments.server.errors import NoPipelineError, RequestError
from deployments.server.native import REFUSALS
from deployments.server.pipelines import NEW_SECONDS, OpenPipeline
from deployments.server.replies import Reply
from deployments.watch.inbox import Inbox
from tasks import metrics
from tasks.errors import LockstepError, TransientError
from tasks.ledger.database import Database

if TYPE_CHECKING:
    from blocks.pipeline import Pipeline
    from deployments.server.pipelines import Pipelines
    from deployments.watch.inbox import Taken

router = APIRouter(tags=["notifications"])
MOST_TOGETHER = 256
"""Notifications in one transaction of the ledger."""
MOST_WAITING = 1024
"""Notifications of one pipeline that may wait for the ledger. The next one gets a 503, and its sender keeps it."""
CHALLENGE = {"www-authenticate": 'Basic realm="lockstep"', "x-should-retry": "false"}
"""Amazon SNS sends the user and the password of an address only to who asks for them in these words."""
EXAMPLES = {
    "AWS, MinIO, Ceph, RustFS": {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": "documents"}, "object": {"key": "manuals/pump+1.md"}},
            }
        ]
    },
    "EventBridge": {
        "detail-type": "Object Deleted",
        "source": "aws.s3",
        "detail": {"bucket": {"name": "documents"}, "object": {"key": "manuals/pump 1.md"}},
    },
    "SeaweedFS": {
        "key": "/buckets/documents/manuals/pump 1.md",
        "event_type": "create",
        "message": {"new_entry": {"name": "pump 1.md"}, "new_parent_path": "/buckets/documents/manuals"},
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "description": "What the S3 server sends, as it is. Amazon SNS sends JSON as text/plain.",
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            },
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    **{status: REFUSALS[status] for status in (413, 502)},
    202: {"model": schemas.PartlyRecorded, "description": "A part cannot be read. The service's log shows it."},
    204: {"description": "The ledger has every key of the pipeline's bucket and prefix that the notification names."},
    400: {"model": schemas.Refusal, "description": "The pipeline is not saved yet, or is invalid."},
    401: {"model": schemas.Refusal, "description": "The token is missing or wrong."},
    404: {"model": schemas.Refusal, "description": "There is no such pipeline, or LOCKSTEP_WATCH_TOKEN is not set."},
    429: {"model": schemas.Refusal, "description": "Too many wrong tokens came from this address."},
    503: {"model": schemas.Refusal, "description": "The ledger does not answer, or the service stops. Send it again."},
}


class Intake(OpenPipeline[Database]):
    """Takes the notifications of one pipeline in. It waits for the ledger alone: not for Milvus, and for no question.

    Notifications that come while the ledger is busy go into the next transaction together.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, lambda pipeline: Database(pipeline.ledger))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"notifications {name}")
        self._waiting: deque[tuple[bytes, asyncio.Future[Taken]]] = deque()
        self._work: asyncio.Task[None] | None = None

    async def take(self, body: bytes) -> Taken:
        """Return what came of a body once the ledger has its keys. Raises ``TransientError`` or ``PartError``."""
        if len(self._waiting) >= MOST_WAITING:
            raise TransientError(f"{MOST_WAITING:,} notifications of '{self.name}' wait for the ledger; send it again")
        taken: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, taken))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._take_waiting())
        return await taken

    async def _take_waiting(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            bodies = [body for body, _ in group]
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._thread, self._take, bodies)
            except Exception as error:  # noqa: BLE001 - each of them is told
                for _, taken in group:
                    if not taken.done():
                        taken.set_exception(error)
            else:
                for (_, taken), came in zip(group, result, strict=True):
                    if not taken.done():
                        taken.set_result(came)

    def _take(self, bodies: Sequence[bytes]) -> list[Taken]:
        with self.using() as opened:
            inbox = Inbox(opened.connections, opened.pipeline.alias, opened.pipeline.source)
            return inbox.take_all(bodies, f"POST /notifications/{self.name}")

    def _load(self) -> Pipeline:
        try:
            return super()._load()
        except LockstepError:
            raise
        except Exception as error:
            raise TransientError(f"Prefect, which has the pipeline '{self.name}', does not answer") from error

    def close(self) -> None:
        """Close the connection to the ledger, and take nothing in any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        super().close()


class Intakes:
    """The intakes of a service, one for each pipeline that was notified. Whoever knows ``token`` may notify all."""

    def __init__(self, pipelines: Pipelines, token: str) -> None:
        self._pipelines, self._token = pipelines, token.encode()
        self._intakes: dict[str, Intake] = {}

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise ``RequestError``: 404 if nobody may notify, 401 without the token."""
        if not self._token:
            raise RequestError(
                "the service takes no notifications: set LOCKSTEP_WATCH_TOKEN and start it again",
                404,
                "notifications_off",
            )
        presented = presented_token(headers)
        if not presented:
            raise RequestError(
                "send the token: as 'Authorization: Bearer …', as the password of Basic, or as 'X-API-Key'",
                401,
                "no_token",
                headers=CHALLENGE,
            )
        if not hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), self._token):
            raise RequestError("this is not the token of LOCKSTEP_WATCH_TOKEN", 401, "wrong_token", headers=CHALLENGE)

    async def of(self, name: str) -> Intake:
        """Return the intake of a pipeline. Raises ``NoPipelineError``, or ``TransientError`` if nobody knows."""
        if name not in self._intakes and name not in await self._pipelines.names(NEW_SECONDS):
            if not self._pipelines.certain:
                raise TransientError(f"Prefect, which knows whether there is a pipeline '{name}', does not answer")
            raise NoPipelineError.of(name)
        if name not in self._intakes:
            self._intakes[name] = Intake(name)
        return self._intakes[name]

    def close(self) -> None:
        """Close all."""
        for intake in self._intakes.values():
            intake.close()


def presented_token(headers: Mapping[str, str]) -> str:
    """Return the token that a request carries: in a header, and never in the address, which logs show."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and given.strip():
        return given.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return headers.get("x-api-key", "").strip()


@router.post("/notifications/{pipeline}", status_code=204, responses=ANSWERS, openapi_extra=BODY)
async def notify(pipeline: str, request: Request) -> Response:
    """Record which objects a notification of an S3 server names, for the next sync of a pipeline.

    The token of `LOCKSTEP_WATCH_TOKEN` comes as `Authorization: Bearer`, as the password of `Authorization: Basic`, or
    as `X-API-Key`. What names another bucket, or a key without the pipeline's prefix, is left out.
    """
    intakes: Intakes = request.app.state.intakes
    try:
        intakes.check(request.headers)
    except RequestError as error:
        if error.code == "wrong_token":  # and no other: who has the token is never held up
            await count(request, f"address {request.client.host}" if request.client else "address")
        raise
    taken = await (await intakes.of(pipeline)).take(await request.body())
    metrics.NOTIFICATIONS.labels("http", taken.outcome).inc()
    if taken.unreadable:  # accepted all the same: a server that keeps what is refused would send it for ever
        return Reply({"recorded": taken.named, "unreadable": taken.unreadable}, status_code=202)
    return Response(status_code=204)
