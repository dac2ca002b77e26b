"""Parts that are down, refuse, or are no addresses: no error, with all its causes as logged, says a password."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.ledger import Ledger as LedgerBlock
from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source
from blocks.settings import Settings
from deployments.cli.session import prefect_answers
from deployments.endpoints import Endpoints
from deployments.local import health, ledger_health
from deployments.state import State
from flows.ask import link
from tasks.addresses import check_address
from tasks.bucket.errors import s3_errors
from tasks.chat.client import Chat
from tasks.errors import LockstepError
from tasks.evaluation.golden import read_golden
from tasks.ledger.database import Database
from tasks.logs import clean_logs
from tasks.milvus.store import Store
from tests.support.chat_server import StubChat
from tests.support.servers import free_port

SECRET = "geheimnis"
"""Of letters alone: what hides it is what stands around it."""
KEY = "sk-geheim-7xq9"
PASSWORDS = [f"u:{SECRET}@", f"u:{SECRET}#x@", f"u:{SECRET}/x@", f"{SECRET}@", f"u:'{SECRET}\"@"]


@pytest.fixture
def chat() -> Iterator[StubChat]:
    server = StubChat()
    yield server
    server.close()


@pytest.fixture
def logged() -> Iterator[Callable[[Exception], str]]:
    """What a log says of an error, as Prefect logs those that end a run: with the trace, and all causes."""
    before = logging.getLogRecordFactory()
    clean_logs()
    clean_logs()
    written = io.StringIO()
    handler, logger = logging.StreamHandler(written), logging.getLogger("tests.no_passwords")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)

    def log(error: Exception) -> str:
        logger.error("failed: %s", error, exc_info=error)
        return written.getvalue()

    yield log
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


def told(run: Callable[[], Any], logged: Callable[[Exception], str]) -> str:
    with pytest.raises(LockstepError) as caught:
        run()
    said = logged(caught.value)
    for shown in (str(caught.value), repr(caught.value), said):
        assert SECRET not in shown
    assert "Traceback" in said
    return str(caught.value)


CLOSED = "where-nothing-is"


def closed() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    "url",
    [
        *(f"postgresql://{password}{CLOSED}/db" for password in PASSWORDS[:3]),
        f"postgresql://{CLOSED}/db?user=u&password={SECRET}",
        f"postgresql+psycopg://u@{CLOSED}/db?sslpassword={SECRET}",
        f"mysqlx://u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@h:port/db",
        f"sqlite:////nowhere/x.db?password={SECRET}",
    ],
)
def test_the_ledger(url: str, logged: Callable[[Exception], str]) -> None:
    told(lambda: Database(LedgerBlock(url=SecretStr(url.replace(CLOSED, closed())), timeout_seconds=2)), logged)


def test_a_ledger_that_refuses(postgres_url: str, logged: Callable[[Exception], str]) -> None:
    from sqlalchemy import make_url

    url = make_url(postgres_url)
    for wrong in (url.set(password=SECRET), url.set(database="none", query={"password": SECRET})):
        shown = SecretStr(wrong.render_as_string(hide_password=False))
        said = told(lambda given=shown: Database(LedgerBlock(url=given, timeout_seconds=5)), logged)  # type: ignore[misc]
        assert "***" in said


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["http://", "https://", "tcp://", ""])
def test_milvus(scheme: str, password: str, logged: Callable[[Exception], str]) -> None:
    if not scheme and not password.startswith("u:"):
        return  # words before an address without a scheme are a user's name
    block = MilvusStore(uri=f"{scheme}{password}{closed()}", token=SecretStr(SECRET), timeout_seconds=1)
    told(lambda: Store(block, "docs"), logged)


@pytest.mark.parametrize("password", [*PASSWORDS, "query"])
def test_the_chat_model(password: str, logged: Callable[[Exception], str]) -> None:
    url = f"http://{closed()}/v1?token={SECRET}" if password == "query" else f"http://{password}{closed()}/v1"
    block = ChatModel(base_url=url, api_key=SecretStr(SECRET), timeout_seconds=2, max_retries=0)
    told(lambda: Chat(block, Settings()).say(()), logged)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 200])
def test_a_chat_model_that_refuses(status: int, chat: StubChat, logged: Callable[[Exception], str]) -> None:
    said = f"no: Authorization: Bearer {SECRET}, http://u:{SECRET}@vllm" if status != 200 else ""
    chat.replies = [(status, said)]
    url = chat.url.replace("http://", f"http://u:{SECRET}@")
    block = ChatModel(base_url=url, api_key=SecretStr(SECRET), model="m", timeout_seconds=5, max_retries=0)
    told(lambda: Chat(block, Settings()).say(()), logged)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500, 200])
@pytest.mark.parametrize(
    "words",
    ["Incorrect API key provided: {}", "Invalid token '{}'", "x-api-key: {}", "'Bearer {}'", '{{"seen": "{}"}}'],
)
def test_a_chat_model_that_repeats_the_key(
    status: int, words: str, chat: StubChat, logged: Callable[[Exception], str]
) -> None:
    said = words.format(KEY)
    chat.replies = [(status, {"error": {"message": said}} if status != 200 else said.encode())]
    block = ChatModel(base_url=chat.url, api_key=SecretStr(KEY), model="m", timeout_seconds=5, max_retries=0)
    assert KEY not in told(lambda: Chat(block, Settings()).say(()), logged)
    assert KEY not in logged(Exception(said))


@pytest.mark.parametrize("password", [*PASSWORDS, "query"])
def test_the_bucket(password: str, logged: Callable[[Exception], str]) -> None:
    url = f"http://{closed()}/?token={SECRET}" if password == "query" else f"http://{password}{closed()}"
    keys = AwsCredentials(aws_access_key_id="x", aws_secret_access_key=SecretStr(SECRET), region_name="us-east-1")
    source = S3Source(bucket="documents", endpoint_url=url, credentials=keys, timeout_seconds=1)

    def lists() -> None:
        with s3_errors(source):
            check_address(source.endpoint_url, "S3", "AWS_ENDPOINT_URL")
            source.get_client().list_objects_v2(Bucket="documents")

    told(lists, logged)
    told(lambda: read_golden("s3://documents/golden.jsonl", source), logged)


CHECKS = [
    *(getattr(health, f"check_{part}") for part in ("s3", "milvus", "prefect", "worker", "vllm")),
    ledger_health.check_ledger,
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_status(check: Callable[..., Any], password: str, logged: Callable[[Exception], str]) -> None:
    http, secret = f"http://{password}{closed()}", SecretStr(SECRET)
    here = Endpoints(
        s3_endpoint=http,
        s3_access_key="x",
        s3_secret_key=secret,
        s3_session_token=secret,
        s3_region="us-east-1",
        bucket="documents",
        prefix="",
        milvus_uri=http,
        milvus_token=secret,
        milvus_db=None,
        ledger_url=SecretStr(f"postgresql+psycopg://{password}{closed()}/db"),
        vllm_base_url=f"{http}/v1",
        vllm_api_key=secret,
        llm_model=None,
        prefect_api_url=f"{http}/api",
        prefect_ui_url=http,
        prefect_open_url=http,
        prefect_api_key=None,
        prefect_auth_string=secret,
        worker_name="w",
        alias="docs",
        pipeline="docs",
    )
    told(lambda: check(here, State()), logged)


def test_prefect(logged: Callable[[Exception], str]) -> None:
    import httpx

    url = f"http://u:{SECRET}@{closed()}/api"

    def asks() -> None:
        with prefect_answers(url):
            httpx.get(url)

    def refuses() -> None:
        with prefect_answers(url):
            httpx.Response(401, request=httpx.Request("GET", url)).raise_for_status()

    for run in (asks, refuses):
        assert "***" in told(run, logged)


def test_the_links_of_an_answer_hold_no_credentials() -> None:
    source = S3Source(bucket="documents", endpoint_url=f"http://u:{SECRET}@s3:9000/base/?token={SECRET}")
    pipeline = Pipeline.model_construct(source=source)
    assert link(pipeline, "a b.md") == "http://s3:9000/base/documents/a%20b.md"
