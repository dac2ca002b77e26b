"""Receivers of notifications over real queues: nothing leaves a queue before the ledger has it."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from redis import Redis

from blocks.ledger import Ledger
from deployments.environment import Environment
from deployments.watch import queues, receiver
from deployments.watch.inbox import Inbox
from deployments.watch.queues import RedisReceiver, SqsReceiver, receivers
from deployments.watch.receiver import PatientReceiver
from tasks.errors import PartError
from tasks.ledger.changes import waiting_changes
from tasks.ledger.database import Database
from tests.support.proxy import Proxy
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server, moto_server, new_bucket, redis_server

ALIAS = "docs"
KEY = "lockstep-events"
KEYS: dict[str, str | None] = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
SAMPLES = Path(__file__).parents[1] / "unit" / "watch" / "samples"
SECONDS = 30.0
"""How long a test waits at the most for what takes moments."""


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(receiver, "LONGEST_WAIT", 0.3)
    monkeypatch.setattr(queues, "POLL_SECONDS", 1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    with Database(Ledger(url=SecretStr(f"sqlite:///{tmp_path / 'ledger.db'}"))) as opened:
        yield opened


def inbox_of(ledger: Database, bucket: str = "docs", prefix: str = "") -> Inbox:
    return Inbox(ledger, ALIAS, SimpleNamespace(bucket=bucket, prefix=prefix))  # type: ignore[arg-type]


def times_of(ledger: Database) -> dict[str, int]:
    return {change.key: change.times for change in waiting_changes(ledger, ALIAS, 100_000)}


def keys_of(ledger: Database) -> set[str]:
    return set(times_of(ledger))


def until(holds: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def running(one: PatientReceiver) -> Iterator[PatientReceiver]:
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=[stop])
    thread.start()
    try:
        yield one
    finally:
        stop.set()
        began = time.monotonic()
        thread.join(20)
        assert not thread.is_alive()
        assert time.monotonic() - began < 4, "it stops promptly"
        assert one.state == "stopped"


@contextmanager
def ledger_behind(postgres_url: str) -> Iterator[tuple[Proxy, Database, Database]]:
    """A ledger behind a proxy, and the same one without it."""
    at = sa.make_url(postgres_url)
    proxy = Proxy(f"http://{at.host}:{at.port}")
    host, port = Proxy.address(proxy.url)
    through = at.set(host=host, port=port).render_as_string(hide_password=False)
    with (
        Database(Ledger(url=SecretStr(through), timeout_seconds=5)) as opened,
        Database(Ledger(url=SecretStr(postgres_url))) as direct,
    ):
        yield proxy, opened, direct
    proxy.close()


# --- SQS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = moto_server(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.kill()


def aws(kind: str, moto: Server) -> Any:
    import boto3

    keys: dict[str, Any] = {**KEYS}
    return boto3.client(kind, endpoint_url=moto.url, region_name="us-east-1", **keys)


class Queue:
    """An SQS queue."""

    def __init__(self, moto: Server, name: str, **attributes: str) -> None:
        self.client = aws("sqs", moto)
        self.url: str = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn: str = self._attributes("QueueArn")["QueueArn"]

    def _attributes(self, *names: str) -> dict[str, str]:
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[*names])
        return dict(found["Attributes"])

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def count(self) -> tuple[int, int]:
        """How many messages are visible, and how many are handed out."""
        found = self._attributes("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])


@pytest.fixture
def queue(moto: Server, request: pytest.FixtureRequest) -> Queue:
    return Queue(moto, f"q{abs(hash(request.node.nodeid)) % 10**9}")


@pytest.fixture
def watched(moto: Server, queue: Queue) -> Bucket:
    """A bucket of moto's S3 that notifies the queue."""
    bucket = new_bucket(moto)
    events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    bucket.client.put_bucket_notification_configuration(
        Bucket=bucket.name,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": queue.arn, "Events": events}]},
    )
    return bucket


def body(*keys: str) -> str:
    """A notification as S3 sends it."""
    records = [
        {"eventVersion": "2.1", "eventSource": "aws:s3", "s3": {"bucket": {"name": "docs"}, "object": {"key": key}}}
        for key in keys
    ]
    return json.dumps({"Records": records})


def test_what_changes_in_s3_arrives_by_sqs(watched: Bucket, queue: Queue, ledger: Database) -> None:
    with running(SqsReceiver(queue.url, inbox_of(ledger, watched.name), KEYS)) as one:
        assert until(lambda: one.state == "connected")
        watched.put("manuals/pump 1+2.md", "new")
        watched.put("ä/%41.md", "new")
        assert until(lambda: keys_of(ledger) == {"manuals/pump 1+2.md", "ä/%41.md"})
        before = times_of(ledger)["ä/%41.md"]
        watched.delete("ä/%41.md")
        assert until(lambda: times_of(ledger)["ä/%41.md"] > before)
        assert until(lambda: queue.count() == (0, 0)), "what the ledger has is deleted, the test event too"


def test_eventbridge_arrives_by_sqs(moto: Server, queue: Queue, ledger: Database) -> None:
    bucket, events = new_bucket(moto), aws("events", moto)
    bucket.client.put_bucket_notification_configuration(
        Bucket=bucket.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket.name]}}}
    events.put_rule(Name=bucket.name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=bucket.name, Targets=[{"Id": "lockstep", "Arn": queue.arn}])
    with running(SqsReceiver(queue.url, inbox_of(ledger, bucket.name), KEYS)):
        bucket.put("a b+%41.md", "new")
        assert until(lambda: keys_of(ledger) == {"a b+%41.md"})
        assert until(lambda: queue.count() == (0, 0))
        before = times_of(ledger)["a b+%41.md"]
        bucket.delete("a b+%41.md")
        assert until(lambda: times_of(ledger)["a b+%41.md"] > before)
        queue.send((SAMPLES / "eventbridge-created.json").read_text())
        assert until(lambda: queue.count() == (0, 0))


def test_each_message_is_taken_and_no_other_bucket(queue: Queue, ledger: Database) -> None:
    queue.send(*(body(f"team/{n}.md", f"other/{n}.md") for n in range(45)))
    with running(SqsReceiver(queue.url, inbox_of(ledger, prefix="team/"), KEYS)):
        assert until(lambda: keys_of(ledger) == {f"team/{n}.md" for n in range(45)})
        queue.send(body("team/a.md").replace('"docs"', '"another"'))
        assert until(lambda: queue.count() == (0, 0))
    assert set(times_of(ledger).values()) == {1}


def test_no_message_is_deleted_before_the_ledger_has_it(
    queue: Queue, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ledger_behind(postgres_url) as (proxy, ledger, direct):
        proxy.make("refuse")
        queue.send(body("a.md"), body("b.md"))
        with caplog.at_level(logging.INFO, "lockstep.watch"):
            with running(SqsReceiver(queue.url, inbox_of(ledger), KEYS)) as one:
                assert until(lambda: one.state.startswith("waiting: Ledger: "))
                time.sleep(2)  # several tries
                assert sum(queue.count()) == 2
            assert len([line for line in caplog.messages if "waiting" in line]) == 1, "no line for each try"
        assert queue.count() == (2, 0), "others may have them at once"
        with running(SqsReceiver(queue.url, inbox_of(ledger), KEYS)) as one:
            assert until(lambda: one.state.startswith("waiting: Ledger: "))
            proxy.make("none")
            assert until(lambda: keys_of(direct) == {"a.md", "b.md"})
            assert until(lambda: one.state == "connected")
            assert until(lambda: queue.count() == (0, 0))
        counted = times_of(direct)
    assert set(counted.values()) == {1}


def test_while_the_ledger_is_away_messages_are_handed_out_once(
    moto: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that counts how often it handed a message out gives it up in the end."""
    monkeypatch.setattr(queues, "LEAST_VISIBILITY", 1)
    queue = Queue(moto, "counting", VisibilityTimeout="1")
    with ledger_behind(postgres_url) as (proxy, ledger, direct):
        receiving = SqsReceiver(queue.url, inbox_of(ledger), KEYS)
        proxy.make("refuse")
        queue.send(body("a.md"))
        with running(receiving) as one:
            assert until(lambda: one.state.startswith("waiting: Ledger: "))
            time.sleep(3)
            assert queue.count() == (0, 1)
            proxy.make("none")
            assert until(lambda: keys_of(direct) == {"a.md"})
            assert until(lambda: queue.count() == (0, 0))


def test_what_cannot_be_read_leaves_the_queue_for_the_log(
    queue: Queue, ledger: Database, caplog: pytest.LogCaptureFixture
) -> None:
    queue.send("no notification", body("a.md"), '{"x": 1}')
    with running(SqsReceiver(queue.url, inbox_of(ledger), KEYS)):
        assert until(lambda: queue.count() == (0, 0))
    assert keys_of(ledger) == {"a.md"}
    assert "no notification" in caplog.text


def test_a_queue_that_goes_and_comes_back(tmp_path: Path, ledger: Database, caplog: pytest.LogCaptureFixture) -> None:
    server = moto_server(tmp_path).start()
    queue = Queue(server, "own")
    with (
        caplog.at_level(logging.INFO, "lockstep.watch"),
        running(SqsReceiver(queue.url, inbox_of(ledger), KEYS)) as one,
    ):
        assert until(lambda: one.state == "connected")
        server.kill()
        assert until(lambda: one.state.startswith("waiting: SQS does not answer"))
        time.sleep(1)
        server.start()  # it forgot its queue
        assert until(lambda: "NonExistentQueue" in one.state or "QueueDoesNotExist" in one.state)
        Queue(server, "own").send(body("a.md"))
        assert until(lambda: keys_of(ledger) == {"a.md"})
        assert until(lambda: one.state == "connected")
    said = [record.getMessage().split(": ")[1] for record in caplog.records if record.name == "lockstep.watch"]
    assert said == ["connected", "waiting", "waiting", "connected"]
    server.kill()


def test_a_queue_is_hidden_for_a_minute_at_least(moto: Server, ledger: Database) -> None:
    for own, asked in (("30", {"VisibilityTimeout": 60}), ("60", {}), ("300", {})):
        receiving = SqsReceiver(Queue(moto, f"hidden-{own}", VisibilityTimeout=own).url, inbox_of(ledger), KEYS)
        receiving.receive()
        assert receiving._visibility == asked


def test_the_address_of_the_bucket_is_not_that_of_the_queue(
    queue: Queue, ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    queue.send(body("a.md"))
    with running(SqsReceiver(queue.url, inbox_of(ledger), KEYS)):
        assert until(lambda: keys_of(ledger) == {"a.md"})


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/docs", "eu-central-1"),
        ("https://sqs-fips.us-west-2.amazonaws.com/123456789012/docs", "us-west-2"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/docs", "cn-north-1"),
        ("https://vpce-1a2b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/docs", "eu-west-1"),
        ("https://eu-west-3.queue.amazonaws.com/123456789012/docs", "eu-west-3"),
        ("http://queue.example.org:9324/000000000000/docs", "us-east-1"),
    ],
)
def test_the_region_is_that_of_the_queue(url: str, region: str, ledger: Database) -> None:
    assert SqsReceiver(url, inbox_of(ledger))._region == region


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


def entry(key: str, bucket: str = "docs") -> str:
    """An entry of the list, as MinIO writes it."""
    made = json.loads((SAMPLES / "minio-redis-access.json").read_text())
    made[0]["Event"][0]["s3"]["bucket"]["name"], made[0]["Event"][0]["s3"]["object"]["key"] = bucket, key
    return json.dumps(made)


def lengths(redis: Any) -> tuple[int, int]:
    return redis.llen(KEY), redis.llen(f"{KEY}:taken")


def test_what_minio_writes_arrives(redis: Redis, redis_url: str, ledger: Database) -> None:
    redis.rpush(KEY, entry("before.md"))
    with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))) as one:
        redis.rpush(KEY, entry("guides%2Fa+b%2Bc.md"), entry("a.md", "another"), "no notification")
        assert until(lambda: keys_of(ledger) == {"before.md", "guides/a b+c.md"})
        assert until(lambda: one.state == "connected")
        assert until(lambda: lengths(redis) == (0, 0))
        began = time.monotonic()
        redis.rpush(KEY, *(entry(f"{n}.md") for n in range(2000)))
        assert until(lambda: len(keys_of(ledger)) == 2002)
        assert time.monotonic() - began < SECONDS
        assert until(lambda: lengths(redis) == (0, 0))


KILLED = """
import sys, threading, time
from deployments.watch.queues import RedisReceiver

class Slow:
    def take_all(self, bodies, sender):
        print(len(bodies), flush=True)
        time.sleep(600)

RedisReceiver(sys.argv[1], sys.argv[2], Slow()).run(threading.Event())
"""


def test_a_watcher_that_is_killed_loses_nothing(redis: Redis, redis_url: str, ledger: Database) -> None:
    redis.rpush(KEY, *(entry(f"{n}.md") for n in range(3)))
    watcher = subprocess.Popen([sys.executable, "-c", KILLED, redis_url, KEY], stdout=subprocess.PIPE)
    assert watcher.stdout
    assert watcher.stdout.readline() == b"3\n"
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    assert lengths(redis) == (0, 3)
    redis.rpush(KEY, entry("later.md"))
    with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))):
        assert until(lambda: keys_of(ledger) == {"0.md", "1.md", "2.md", "later.md"})
        assert until(lambda: lengths(redis) == (0, 0))


def test_a_watcher_that_goes_on_takes_up_what_another_left(
    redis: Redis, redis_url: str, ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "TAKE_UP_SECONDS", 1.0)
    with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))) as one:
        assert until(lambda: one.state == "connected")
        redis.rpush(f"{KEY}:taken", entry("left.md"))
        assert until(lambda: keys_of(ledger) == {"left.md"})
        assert until(lambda: lengths(redis) == (0, 0))


def test_several_watchers_share_the_work_and_come_and_go(redis: Redis, redis_url: str, ledger: Database) -> None:
    def watch_for(seconds: float) -> None:
        stop = threading.Event()
        threading.Timer(seconds, stop.set).start()
        RedisReceiver(redis_url, KEY, inbox_of(ledger)).run(stop)

    with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))):
        threads = [threading.Thread(target=watch_for, args=[0.3 * n]) for n in range(1, 6)]
        for n, thread in enumerate(threads):
            thread.start()
            redis.rpush(KEY, *(entry(f"{n}/{m}.md") for m in range(300)))
        assert until(lambda: len(keys_of(ledger)) == 1500)
        for thread in threads:
            thread.join()
        assert until(lambda: lengths(redis) == (0, 0))


def test_entries_stay_until_the_ledger_has_them(redis: Redis, redis_url: str, postgres_url: str) -> None:
    with ledger_behind(postgres_url) as (proxy, ledger, direct):
        proxy.make("refuse")
        redis.rpush(KEY, entry("a.md"), entry("b.md"))
        with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))) as one:
            assert until(lambda: one.state.startswith("waiting: Ledger: "))
            time.sleep(1)
            assert sum(lengths(redis)) == 2
            proxy.make("none")
            assert until(lambda: keys_of(direct) == {"a.md", "b.md"})
            assert until(lambda: lengths(redis) == (0, 0))
            assert until(lambda: one.state == "connected")


def test_redis_is_killed_and_comes_back(tmp_path: Path, ledger: Database, caplog: pytest.LogCaptureFixture) -> None:
    server = redis_server(tmp_path).start()
    server.argv += ["--appendonly", "yes", "--appendfsync", "always"]
    server.kill()
    with (
        caplog.at_level(logging.INFO, "lockstep.watch"),
        running(RedisReceiver(server.url, KEY, inbox_of(ledger))) as one,
    ):
        assert until(lambda: one.state.startswith("waiting: Redis does not answer (since 20"))
        server.start()
        assert until(lambda: one.state == "connected")
        with Redis.from_url(server.url) as client:
            client.rpush(KEY, entry("a.md"))
            assert until(lambda: keys_of(ledger) == {"a.md"})
            server.kill()
            assert until(lambda: one.state.startswith("waiting"))
            server.start()
            client.rpush(KEY, entry("b.md"))
            assert until(lambda: keys_of(ledger) == {"a.md", "b.md"})
            assert until(lambda: lengths(client) == (0, 0))
    said = [record.getMessage().split(": ")[1] for record in caplog.records if record.name == "lockstep.watch"]
    assert said == ["waiting", "connected", "waiting", "connected"]
    server.kill()


def test_a_reply_that_is_lost_costs_no_entry(redis: Redis, redis_url: str, ledger: Database) -> None:
    """Redis has moved the entry, and the receiver does not know it."""
    host, port = redis.get_connection_kwargs()["host"], redis.get_connection_kwargs()["port"]
    proxy = Proxy(f"http://{host}:{port}")
    through = f"redis://127.0.0.1:{Proxy.address(proxy.url)[1]}/0"
    with running(RedisReceiver(through, KEY, inbox_of(ledger))) as one:
        assert until(lambda: one.state == "connected")
        for n in range(2):
            proxy.swallow()
            redis.rpush(KEY, *(entry(f"{n}-{m}.md") for m in range(3)))
            assert until(lambda: one.state.startswith("waiting"))
            proxy.make("reset")
            proxy.make("none")
            assert until(lambda n=n: {f"{n}-{m}.md" for m in range(3)} <= keys_of(ledger))  # type: ignore[misc]
            assert until(lambda: lengths(redis) == (0, 0))
            assert until(lambda: one.state == "connected")
    proxy.close()


def test_what_is_wrong_with_redis_is_said(redis: Redis, redis_url: str, ledger: Database) -> None:
    redis.hset(KEY, "docs/a.md", "{}")
    with running(RedisReceiver(redis_url, KEY, inbox_of(ledger))) as one:
        assert until(lambda: "format=access" in one.state)
        redis.delete(KEY)
        redis.rpush(KEY, entry("a.md"))
        assert until(lambda: keys_of(ledger) == {"a.md"})
    secret = redis_url.replace("redis://", "redis://nobody:secret-word@")
    with running(RedisReceiver(secret, KEY, inbox_of(ledger))) as one:
        assert until(lambda: "refuses the user or the password" in one.state)
        assert "secret-word" not in one.state


# --- Both ------------------------------------------------------------------------------------------------------------


def test_the_environment_says_which_receivers_there_are(ledger: Database) -> None:
    inbox = inbox_of(ledger)
    assert receivers(Environment(), inbox) == []
    env = Environment.model_validate(
        {
            "LOCKSTEP_WATCH_SQS_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/docs",
            "LOCKSTEP_WATCH_REDIS_URL": "redis://:secret-word@redis.example.org:6379/1",
        }
    )
    assert "secret-word" not in repr(env)
    made = receivers(env, inbox)
    assert [one.name for one in made] == ["SQS queue docs", "Redis list lockstep-events"]
    assert [one.state for one in made] == ["not started", "not started"]
    with pytest.raises(PartError, match="LOCKSTEP_WATCH_REDIS_URL") as refused:
        RedisReceiver("redis://:a#b@host:6379", KEY, inbox)
    assert "a#b" not in str(refused.value)


def test_tries_become_ever_more_seldom_and_nothing_ends_a_receiver(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.waits: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout or 0)
            if len(self.waits) == 12:
                self.set()
            return self.is_set()

    class Broken(RedisReceiver):
        tries = 0

        def receive(self) -> None:
            self.tries += 1
            if self.tries == 10:
                return
            raise ZeroDivisionError

        def close(self) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(receiver, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(receiver, "LONGEST_WAIT", 60.0)
    stop = Stop()
    Broken("redis://127.0.0.1:1", KEY, inbox_of(ledger)).run(stop)
    assert stop.waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1, 2]
