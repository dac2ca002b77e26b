"""The route that S3 servers notify: whatever it acknowledged stands in the ledger, and nobody else gets in."""

from __future__ import annotations

import base64
import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from deployments.server.access.rates import Rates
from deployments.watch.notifications import read_notification
from tasks.ledger.changes import WHOLE_BUCKET, waiting_changes
from tasks.ledger.database import Database
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service, eventually, process, serving
from tests.support.proxy import Proxy
from tests.support.servers import Bucket, Server, free_port, moto_server, new_bucket, s3_client, seaweedfs

TOKEN = "a token of S3 servers"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SAMPLES = sorted((Path(__file__).parents[1] / "unit" / "watch" / "samples").glob("*.json*"))
SECONDS = 20.0
"""How long a test waits for a key at the most. It comes within milliseconds."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def record(key: str, bucket: str = "docs") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


def records(*keys: str, bucket: str = "docs") -> dict[str, Any]:
    return {"Records": [record(key, bucket) for key in keys]}


@pytest.fixture
def notified(index: Index, request: pytest.FixtureRequest) -> str:
    """A pipeline over the bucket docs, of which nothing is known."""
    alias = f"n{abs(hash(request.node.nodeid)) % 10**9}"
    return index.make(name=alias, alias=alias, source={"bucket": "docs"})


@pytest.fixture(scope="module")
def hooks(index: Index) -> Iterator[Service]:
    with serving(index.name, watch_token=TOKEN) as service:
        yield service


def keys_of(name: str) -> set[str]:
    """The keys that wait for a sync of a pipeline."""
    pipeline = load_pipeline(name)
    with Database(pipeline.ledger) as ledger:
        return {change.key for change in waiting_changes(ledger, pipeline.alias, 100_000)}


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def post(service: Service, name: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{service.url}/notifications/{name}"
    return httpx.post(url, content=sent, headers=BEARER if headers is None else headers, timeout=60)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_what_every_server_sends_is_recorded(hooks: Service, notified: str, sample: Path) -> None:
    mentions = read_notification(sample.read_bytes())
    named = {one.key for one in mentions.objects if one.bucket == "docs"}
    answer = post(hooks, notified, sample.read_bytes(), {**BEARER, "content-type": "text/plain; charset=UTF-8"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert keys_of(notified) == named | ({WHOLE_BUCKET} if "docs" in mentions.relist else set())


def test_the_samples_name_keys() -> None:
    assert len(SAMPLES) > 20
    assert sum(bool(read_notification(sample.read_bytes()).objects) for sample in SAMPLES) > 15


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (BEARER, 204, ""),
        ({"authorization": f"bearer  {TOKEN}"}, 204, ""),
        ({"authorization": basic("lockstep", TOKEN)}, 204, ""),
        ({"authorization": basic("", TOKEN)}, 204, ""),
        ({"x-api-key": TOKEN}, 204, ""),
        ({}, 401, "no_token"),
        ({"authorization": ""}, 401, "no_token"),
        ({"authorization": "Bearer"}, 401, "no_token"),
        ({"authorization": "Basic not base64!"}, 401, "no_token"),
        ({"authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()}, 401, "no_token"),
        ({"authorization": basic(TOKEN, "")}, 401, "no_token"),
        ({"authorization": TOKEN}, 401, "no_token"),
        ({"authorization": f"Digest {TOKEN}"}, 401, "no_token"),
        ({"authorization": f"Bearer {TOKEN}x"}, 401, "wrong_token"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401, "wrong_token"),
        ({"authorization": basic("lockstep", TOKEN.upper())}, 401, "wrong_token"),
        ({"x-api-key": "lsk_of_somebody"}, 401, "wrong_token"),
    ],
)
def test_only_who_has_the_token_may_notify(
    hooks: Service, notified: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(hooks, notified, records("a.md"), headers)
    assert answer.status_code == status
    assert keys_of(notified) == ({"a.md"} if status == 204 else set())
    if code:
        assert answer.json()["error"]["code"] == code
        assert answer.headers["www-authenticate"] == 'Basic realm="lockstep"', "SNS sends its password only then"
        assert f'lockstep_rejected_total{{reason="{code}"}}' in httpx.get(f"{hooks.url}/metrics").text


def test_the_token_does_not_count_in_the_address_and_opens_nothing_else(hooks: Service, notified: str) -> None:
    for name in ("token", "key", "api_key", "access_token"):
        url = f"{hooks.url}/notifications/{notified}"
        assert httpx.post(url, params={name: TOKEN}, json=records("a.md")).status_code == 401
    assert keys_of(notified) == set()
    asked = httpx.post(f"{hooks.url}/search", json={"question": QUESTION}, headers=BEARER)
    assert asked.status_code == 401


def test_a_key_of_the_service_does_not_notify(index: Index, notified: str) -> None:
    with serving(index.name, watch_token=TOKEN, own_key="lsk_of_the_home") as service:
        answer = post(service, notified, records("a.md"), {"authorization": "Bearer lsk_of_the_home"})
        assert answer.status_code == 401


def test_without_the_variable_nobody_notifies(service: Service, notified: str) -> None:
    for headers in ({}, BEARER, {"authorization": "Bearer"}):
        answer = post(service, notified, records("a.md"), headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "notifications_off")
        assert "LOCKSTEP_WATCH_TOKEN" in answer.json()["error"]["message"]
    assert keys_of(notified) == set()


def test_another_pipeline_method_or_host_is_refused(hooks: Service, notified: str) -> None:
    missing = post(hooks, "nobody", records("a.md"))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "pipeline_not_found")
    assert post(hooks, "nobody", records("a.md"), {}).status_code == 401, "tells nobody which pipelines there are"
    url = f"{hooks.url}/notifications/{notified}"
    assert httpx.head(url, headers=BEARER).status_code == 405  # MinIO asks so whether somebody is there
    assert post(hooks, notified, records("a.md"), {**BEARER, "host": "evil.example"}).status_code == 421
    assert post(hooks, notified, b"x" * (1 << 20) + b"x").status_code == 413
    assert keys_of(notified) == set()


def test_while_prefect_is_away_an_unknown_pipeline_is_not_refused_for_good(
    hooks: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> list[str]:
        raise httpx.ConnectError("Prefect is away")

    monkeypatch.setattr("deployments.server.pipelines.pipeline_names", fails)
    answer = post(hooks, "perhaps", records("a.md"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_other_buckets_and_prefixes_record_nothing(index: Index, hooks: Service) -> None:
    name = index.make(name="prefixed", alias="prefixed", source={"bucket": "docs", "prefix": "team/"})
    assert post(hooks, name, records("team/a.md", bucket="another")).status_code == 204
    assert post(hooks, name, records("teams.md", "other/team/a.md", "")).status_code in (202, 204)
    assert post(hooks, name, records("team/../../secret", "tea")).status_code == 204
    assert keys_of(name) == {"team/../../secret"}  # a key like any other: S3 knows no folders
    assert 'receiver="http"' in httpx.get(f"{hooks.url}/metrics").text


def test_what_cannot_be_read_is_accepted_and_kept_in_the_log(
    hooks: Service, notified: str, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b"", b"not JSON at all", b"\xff\xfe", b"{}", b'{"message": "hello"}'):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "lockstep.watch.unreadable"):
            answer = post(hooks, notified, body)
        assert (answer.status_code, answer.json()) == (202, {"recorded": 0, "unreadable": 1})
        assert f"{len(body)} bytes" in caplog.text
    partly = post(hooks, notified, [records("a.md"), {"who": "knows"}])
    assert (partly.status_code, partly.json()) == (202, {"recorded": 1, "unreadable": 1})
    assert keys_of(notified) == {"a.md"}
    text = httpx.get(f"{hooks.url}/metrics").text
    assert 'lockstep_notifications_total{outcome="unreadable",receiver="http"}' in text


def test_a_body_that_trips_the_reader_stops_nobody(
    hooks: Service, notified: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trips(body: bytes) -> Any:
        if b"odd" in body:
            raise ZeroDivisionError
        return read_notification(body)

    monkeypatch.setattr("deployments.watch.inbox.read_notification", trips)
    assert post(hooks, notified, b"odd").status_code == 202
    assert "ZeroDivisionError" in caplog.text
    assert post(hooks, notified, records("a.md")).status_code == 204
    assert keys_of(notified) == {"a.md"}


class Visitors:
    """A web server that counts who comes."""

    def __init__(self) -> None:
        self.count = 0
        visitors = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                visitors.count += 1

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def test_a_subscription_is_shown_to_a_person_and_never_confirmed(
    hooks: Service, notified: str, caplog: pytest.LogCaptureFixture
) -> None:
    visitors = Visitors()
    url = f"{visitors.url}/?Action=ConfirmSubscription"
    with caplog.at_level(logging.WARNING, "lockstep.watch"):
        answer = post(hooks, notified, {"Type": "SubscriptionConfirmation", "Message": "…", "SubscribeURL": url})
    assert answer.status_code == 204
    assert url in caplog.text
    time.sleep(0.5)
    assert visitors.count == 0


def test_five_thousand_notifications_are_recorded_in_seconds(hooks: Service, notified: str) -> None:
    def send(first: int) -> set[int]:
        with httpx.Client(base_url=hooks.url, headers=BEARER, timeout=60) as client:  # threads cannot share one
            path = f"/notifications/{notified}"
            return {client.post(path, json=records(f"{n}.md")).status_code for n in range(first, 5000, 32)}

    began = time.monotonic()
    with ThreadPoolExecutor(32) as senders:
        statuses = set[int]().union(*senders.map(send, range(32)))
    assert statuses == {204}
    assert keys_of(notified) == {f"{number}.md" for number in range(5000)}
    assert time.monotonic() - began < 120


def test_no_rate_holds_up_who_has_the_token(index: Index, notified: str) -> None:
    with serving(index.name, watch_token=TOKEN, rates=Rates("3/hour")) as service:
        wrong = {"authorization": "Bearer guess"}
        assert [post(service, notified, records("x"), wrong).status_code for _ in range(5)] == [401] * 3 + [429] * 2
        assert [post(service, notified, records("x"), {}).status_code for _ in range(5)] == [401] * 5
        assert {post(service, notified, records(f"{number}.md")).status_code for number in range(10)} == {204}
    assert keys_of(notified) == {f"{number}.md" for number in range(10)}


def test_a_service_that_stops_sends_notifications_away(index: Index, notified: str) -> None:
    with serving(index.name, watch_token=TOKEN, draining=lambda: True) as service:
        answer = post(service, notified, records("a.md"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_notifications_need_no_milvus(index: Index) -> None:
    name = index.make(name="no-milvus", alias="no_milvus", milvus=f"http://127.0.0.1:{free_port()}", milvus_seconds=1.0)
    with serving(index.name, watch_token=TOKEN) as service:
        assert post(service, name, records("a.md", bucket=index.bucket.name)).status_code == 204
    assert keys_of(name) == {"a.md"}


@contextmanager
def postgres_behind(postgres_url: str) -> Iterator[tuple[Proxy, str]]:
    at = sa.make_url(postgres_url)
    proxy = Proxy(f"http://{at.host}:{at.port}")
    host, port = Proxy.address(proxy.url)
    yield proxy, at.set(host=host, port=port).render_as_string(hide_password=False)
    proxy.close()


def test_what_was_acknowledged_while_the_ledger_came_and_went_is_there(index: Index, postgres_url: str) -> None:
    with postgres_behind(postgres_url) as (proxy, ledger), serving(index.name, watch_token=TOKEN) as service:
        name = index.make(name="away", alias="away", source={"bucket": "docs"}, ledger=ledger)
        proxy.make("refuse")
        refused = post(service, name, records("at the start.md"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "part_unavailable")
        assert refused.headers["retry-after"] == "1"
        proxy.make("none")
        acknowledged: set[str] = set()
        refusals = 0
        done = threading.Event()

        def send() -> None:
            nonlocal refusals
            with httpx.Client(base_url=service.url, headers=BEARER, timeout=90) as client:
                number = 0
                while not done.is_set():
                    key = f"{threading.get_ident()}/{(number := number + 1)}.md"
                    answer = client.post(f"/notifications/{name}", json=records(key))
                    if answer.status_code == 204:
                        acknowledged.add(key)
                    else:
                        assert answer.status_code == 503, answer.text
                        refusals += 1
                        time.sleep(0.1)

        with ThreadPoolExecutor(4) as senders:
            sent = [senders.submit(send) for _ in range(4)]
            try:
                for trouble in ("refuse", "none", "refuse", "none"):
                    before = len(acknowledged), refusals
                    proxy.make(trouble)  # type: ignore[arg-type]
                    position = 0 if trouble == "none" else 1
                    assert until(lambda b=before, p=position: (len(acknowledged), refusals)[p] > b[p] + 3)  # type: ignore[misc]
            finally:
                done.set()
        for one in sent:
            one.result()
        assert len(acknowledged) > 8
        assert refusals > 8
        assert acknowledged <= keys_of(name)
        assert httpx.get(f"{service.url}/health").status_code == 200


def test_a_ledger_that_is_silent_holds_up_no_question(
    index: Index, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And beyond those that may wait for it, notifications are sent away at once."""
    monkeypatch.setattr("deployments.server.notifications.MOST_WAITING", 4)
    with postgres_behind(postgres_url) as (proxy, ledger), serving(index.name, watch_token=TOKEN) as service:
        name = index.make(name="silent", alias="silent", source={"bucket": "docs"}, ledger=ledger)
        assert post(service, name, records("before.md")).status_code == 204
        proxy.swallow()
        with ThreadPoolExecutor(20) as senders:
            sent = [senders.submit(post, service, name, records(f"{number}.md")) for number in range(20)]
            assert until(lambda: any(one.done() for one in sent))
            began = time.monotonic()
            assert httpx.post(f"{service.url}/search", json={"question": QUESTION}, timeout=60).status_code == 200
            assert time.monotonic() - began < 5
            proxy.make("refuse")
            statuses = [one.result().status_code for one in sent]
        assert set(statuses) == {503}
        proxy.make("none")
        assert until(lambda: post(service, name, records("after.md")).status_code == 204)
        assert {"before.md", "after.md"} <= keys_of(name)


def test_the_process_takes_the_token_from_its_environment_and_logs_no_key(
    index: Index, notified: str, tmp_path: Path
) -> None:
    with process(index.name, tmp_path, LOCKSTEP_WATCH_TOKEN=TOKEN) as (_, url):
        eventually(lambda: httpx.get(f"{url}/health"))
        body = records("private/salaries.md")
        answer = httpx.post(f"{url}/notifications/{notified}", json=body, headers=BEARER, timeout=60)
        assert answer.status_code == 204
        confirmation = {"Type": "SubscriptionConfirmation", "Message": "…", "SubscribeURL": "https://sns.example/?x"}
        httpx.post(f"{url}/notifications/{notified}", json=confirmation, headers=BEARER, timeout=60)
    log = (tmp_path / "log").read_text()
    assert "POST /notifications/{pipeline} 204" in log
    assert "https://sns.example/?x" in log
    assert "salaries" not in log
    assert TOKEN not in log
    assert keys_of(notified) == {"private/salaries.md"}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = moto_server(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.kill()


def test_sns_with_the_token_in_its_address_notifies(index: Index, hooks: Service, moto: Server) -> None:
    """Through moto's S3 and SNS: a subscription whose address has a user and a password."""
    bucket = new_bucket(moto)
    name = index.make(name="by-sns", alias="by_sns", source={"bucket": bucket.name})
    sns = moto_client("sns", moto)
    topic = sns.create_topic(Name=name)["TopicArn"]
    address = hooks.url.replace("http://", f"http://lockstep:{TOKEN.replace(' ', '%20')}@")
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"{address}/notifications/{name}")
    bucket.client.put_bucket_notification_configuration(
        Bucket=bucket.name,
        NotificationConfiguration={
            "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
        },
    )
    bucket.put("new file.md", "new")
    assert until(lambda: keys_of(name) == {"new file.md"})
    bucket.put("ä+b.md", "gone")
    bucket.delete("ä+b.md")
    assert until(lambda: keys_of(name) == {"new file.md", "ä+b.md"})


def moto_client(kind: str, moto: Server) -> Any:
    import boto3

    return boto3.client(
        kind, endpoint_url=moto.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


@pytest.fixture
def filer(index: Index, hooks: Service, tmp_path: Path) -> Iterator[Bucket]:
    """A bucket of the real SeaweedFS, whose filer notifies the pipeline `by-filer`."""
    server = seaweedfs(tmp_path, f"{hooks.url}/notifications/by-filer", TOKEN)
    index.make(name="by-filer", alias="by_filer", source={"bucket": "docs"})
    server.start()
    client = s3_client(server.url)
    client.create_bucket(Bucket="docs")
    yield Bucket(client, "docs")
    server.kill()


def test_seaweedfs_notifies_of_every_change(filer: Bucket) -> None:
    changes: list[tuple[Callable[[], Any], set[str]]] = [
        (lambda: filer.put("manuals/pump 1+2.md", "new"), {"manuals/pump 1+2.md"}),
        (lambda: filer.put("manuals/pump 1+2.md", "overwritten"), {"manuals/pump 1+2.md"}),
        (
            lambda: filer.client.copy_object(
                Bucket=filer.name,
                Key="archive/ü%20.md",
                CopySource={"Bucket": filer.name, "Key": "manuals/pump 1+2.md"},
            ),
            {"archive/ü%20.md"},
        ),
        (lambda: filer.delete("manuals/pump 1+2.md"), {"manuals/pump 1+2.md"}),
        (lambda: filer.client.delete_objects(Bucket=filer.name, Delete={"Objects": [{"Key": "archive/ü%20.md"}]}), {
            "archive/ü%20.md"
        }),
    ]  # fmt: skip
    for change, named in changes:
        before = times_of("by-filer")
        change()
        assert until(lambda b=before, n=named: all(times_of("by-filer").get(k, 0) > b.get(k, 0) for k in n))  # type: ignore[misc]
    assert set(times_of("by-filer")) == {"manuals/pump 1+2.md", "archive/ü%20.md"}, "no folder and no other bucket"
    large = b"x" * (12 << 20)
    filer.client.upload_fileobj(BytesIO(large), filer.name, "large.bin")
    assert until(lambda: "large.bin" in times_of("by-filer"))
    assert not [key for key in times_of("by-filer") if ".uploads" in key]


def times_of(name: str) -> dict[str, int]:
    """How often each waiting key was named."""
    pipeline = load_pipeline(name)
    with Database(pipeline.ledger) as ledger:
        return {change.key: change.times for change in waiting_changes(ledger, pipeline.alias, 100_000)}
