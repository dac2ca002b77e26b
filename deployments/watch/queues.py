"""Receivers of notifications that wait in a queue: Amazon SQS, or a list in Redis that MinIO writes.

Both queues keep a notification until its keys are in the ledger. Until then a queue hands it out again, to this watcher
or to another one. To take a notification twice costs a request to the bucket.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from deployments.environment import plain
from deployments.watch.receiver import LONGEST_WAIT, PatientReceiver
from tasks.addresses import check_address

if TYPE_CHECKING:
    from redis import Redis

    from deployments.environment import Environment
    from deployments.watch.inbox import Inbox
    from deployments.watch.receiver import Receiver

POLL_SECONDS = 2
"""How long a request waits for a message. A receiver that is told to stop takes that long."""
SQS_BATCH = 10
"""The most that SQS hands out, and deletes, at once."""
LEAST_VISIBILITY = 60
"""Seconds for which a message that was handed out is hidden from others. A queue may have a longer time of its own."""
HELD_VISIBILITY = int(2 * LONGEST_WAIT) + 60
"""The same while the ledger is away. Otherwise a queue that counts would give messages up as undeliverable."""
SQS_REGION = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.|^([a-z0-9-]+)\.queue\.amazonaws\.")
SQS_DENIED = ("AccessDenied", "AccessDeniedException", "AWS.SimpleQueueService.AccessDenied")
REDIS_BATCH = 100
REDIS_SECONDS = POLL_SECONDS + 1.0
"""How long Redis may take to answer."""
TAKE_UP_SECONDS = 300.0
"""How often a receiver takes up what others took and never acknowledged."""


def receivers(env: Environment, inbox: Inbox) -> list[Receiver]:
    """Return the receivers that the environment asks for. Raises ``PartError`` if an address cannot be parsed."""
    made: list[Receiver] = []
    if env.watch_sqs_url:
        keys = {
            "aws_access_key_id": env.aws_access_key_id,
            "aws_secret_access_key": plain(env.aws_secret_access_key),
            "aws_session_token": plain(env.aws_session_token),
        }
        made.append(SqsReceiver(env.watch_sqs_url, inbox, keys, env.aws_region))
    if redis_url := plain(env.watch_redis_url):
        made.append(RedisReceiver(redis_url, env.watch_redis_key, inbox))
    return made


class SqsReceiver(PatientReceiver):
    """Receives from a queue of Amazon SQS, or of a server that speaks its protocol.

    ``keys`` are boto3's names and values. What is None comes from the machine's own AWS configuration. ``region`` is
    for a URL that names none.
    """

    kind = "sqs"

    def __init__(
        self, url: str, inbox: Inbox, keys: dict[str, str | None] | None = None, region: str = "us-east-1"
    ) -> None:
        check_address(url, "SQS", "LOCKSTEP_WATCH_SQS_URL")
        super().__init__(f"SQS queue {url.rpartition('/')[2]}", inbox)
        self._url, self._keys = url, keys or {}
        found = SQS_REGION.search(urlsplit(url).hostname or "")
        self._region = next(filter(None, found.groups()), region) if found else region
        self._client: Any = None
        self._visibility: dict[str, int] = {}
        self._held: list[dict[str, Any]] = []
        """Messages that were handed out, and that the ledger does not have yet."""

    def receive(self) -> None:
        """Fetch up to ten messages, and delete them once the ledger has their keys."""
        client = self._connected()
        if not self._held:
            answer = client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=SQS_BATCH, WaitTimeSeconds=POLL_SECONDS, **self._visibility
            )
            self._held = answer.get("Messages", [])
        if not self._held:
            return
        try:
            self.take([message["Body"].encode("utf-8", "surrogatepass") for message in self._held])
        except Exception:
            with suppress(Exception):  # then they are handed out again, which is harmless
                self._show_in(HELD_VISIBILITY)
            raise
        done, self._held = self._held, []
        client.delete_message_batch(QueueUrl=self._url, Entries=_entries(done))

    def close(self) -> None:
        """Let others have at once what the ledger does not have."""
        if self._held:
            self._show_in(0)
        if self._client:
            self._client.close()

    def explain(self, error: Exception) -> tuple[str, str]:
        """Return what is wrong with the queue."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", "?"))
            return code, f"SQS refuses ({code}). Check LOCKSTEP_WATCH_SQS_URL, the AWS keys and their rights"
        if isinstance(error, NoCredentialsError):
            return "no keys", "there are no AWS keys. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        if isinstance(error, BotoCoreError | OSError):
            return "away", "SQS does not answer. Check LOCKSTEP_WATCH_SQS_URL"
        return type(error).__name__, f"SQS led to an unexpected error ({type(error).__name__})"

    def _show_in(self, seconds: int) -> None:
        entries = [{**entry, "VisibilityTimeout": seconds} for entry in _entries(self._held)]
        self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            place = urlsplit(self._url)
            self._client = cast(Any, boto3.session.Session()).client(
                "sqs",
                region_name=self._region,
                # The queue's own server, also where AWS_ENDPOINT_URL names that of the bucket.
                endpoint_url=f"{place.scheme}://{place.netloc}",
                config=Config(connect_timeout=2, read_timeout=POLL_SECONDS + 5, retries={"total_max_attempts": 1}),
                **self._keys,
            )
            self._visibility = self._least_visibility()
        return self._client

    def _least_visibility(self) -> dict[str, int]:
        from botocore.exceptions import ClientError

        wanted = {"VisibilityTimeout": LEAST_VISIBILITY}
        try:
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["VisibilityTimeout"])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in SQS_DENIED:
                return wanted
            self._client = None
            raise
        except Exception:
            self._client = None
            raise
        return {} if int(answer["Attributes"]["VisibilityTimeout"]) >= LEAST_VISIBILITY else wanted


def _entries(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]


class RedisReceiver(PatientReceiver):
    """Receives from a list in Redis 6.2 or later, as MinIO's target with the format `access` writes it.

    What is taken moves to the list ``KEY:taken``, which all receivers share. It leaves that list once the ledger has
    its keys. A receiver that starts, or that does not know what became of a request, moves the list back. What another
    one is just working on is then taken twice, and nothing is lost.
    """

    kind = "redis"

    def __init__(self, url: str, key: str, inbox: Inbox) -> None:
        check_address(url, "Redis", "LOCKSTEP_WATCH_REDIS_URL")
        super().__init__(f"Redis list {key}", inbox)
        self._url, self._key, self._taken = url.replace("redis+unix://", "unix://", 1), key, f"{key}:taken"
        self._client: Redis | None = None
        self._in_doubt = True
        """Whether something may have been taken and not acknowledged."""
        self._looked_at = 0.0

    def receive(self) -> None:
        """Take up to a hundred entries, and remove them once the ledger has their keys."""
        client: Any = self._connected()
        if self._in_doubt or time.monotonic() - self._looked_at > TAKE_UP_SECONDS:
            for _ in range(client.llen(self._taken)):  # no longer: another receiver may be taking all the time
                client.lmove(self._taken, self._key, "RIGHT", "LEFT")
            self._looked_at = time.monotonic()
        self._in_doubt = True  # until all went well
        first = client.blmove(self._key, self._taken, POLL_SECONDS, "LEFT", "RIGHT")
        if first is not None:
            self._work_off(client, first)
        self._in_doubt = False

    def _work_off(self, client: Any, first: bytes) -> None:
        with client.pipeline(transaction=False) as more:
            for _ in range(REDIS_BATCH - 1):
                more.lmove(self._key, self._taken, "LEFT", "RIGHT")
            bodies = [first, *(body for body in more.execute() if body is not None)]
        self.take(bodies)
        with client.pipeline(transaction=False) as done:
            for body in bodies:
                done.lrem(self._taken, 1, body)
            done.execute()

    def close(self) -> None:
        """Close the connection. What was taken and not acknowledged is taken up with the next start."""
        if self._client:
            self._client.close()

    def explain(self, error: Exception) -> tuple[str, str]:
        """Return what is wrong with Redis or the list."""
        import redis

        name = type(error).__name__
        if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
            return name, "Redis refuses the user or the password. Check LOCKSTEP_WATCH_REDIS_URL"
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            return "away", "Redis does not answer"
        if "WRONGTYPE" in str(error):
            return "type", f"'{self._key}' is no list. Let MinIO write with format=access, under a key of its own"
        if "unknown command" in str(error).lower():
            return "old", "Redis is older than 6.2"
        return name, f"Redis refuses ({name})"

    def _connected(self) -> Redis:
        if self._client is None:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            self._client = Redis.from_url(
                self._url,
                socket_timeout=REDIS_SECONDS,
                socket_connect_timeout=POLL_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client
