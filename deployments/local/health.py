"""Health checks: each asks a part for something that only a working one can answer.

A check takes the endpoints (and, for the worker, the state with its process), returns a detail worth showing
("" when there is none) and raises PartError with the reason when the part is not well. Each gives up after
``SECONDS``. They use the lightest honest client: a `lockstep up` that finds all well should be instant.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks.pymilvus_import import load_pymilvus
from deployments.environment import plain
from deployments.local.processes import running, serving
from deployments.state import State
from tasks.addresses import check_address
from tasks.errors import PartError
from tasks.sanitize import hidden

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Connection

    from deployments.endpoints import Endpoints

SECONDS = 5.0
LOCAL = ("127.0.0.1", "localhost", "::1")
POOL = "lockstep"
LATE_SECONDS = 60.0
# Prefect plans the runs of a new or changed deployment some seconds later.
PLANNING_SECONDS = 15.0


def check_s3(endpoints: Endpoints, _state: State) -> str:
    """Look for the bucket, signed with the keys in force."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    config = Config(
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        # An empty mapping keeps botocore from sending requests for this machine to a company's proxy.
        proxies={} if _is_local(endpoints.s3_endpoint) else None,
    )
    try:
        client = boto3.session.Session(
            aws_access_key_id=endpoints.s3_access_key,
            aws_secret_access_key=plain(endpoints.s3_secret_key),
            aws_session_token=plain(endpoints.s3_session_token),
            region_name=endpoints.s3_region,
        ).client("s3", endpoint_url=endpoints.s3_endpoint, config=config)
        client.head_bucket(Bucket=endpoints.bucket)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        reasons = {404: "it has no such bucket", 403: "it refuses the keys (AWS_ACCESS_KEY_ID) for it"}
        raise PartError(f"bucket {endpoints.bucket}: {reasons.get(status, f'HTTP {status}')}") from error
    except NoCredentialsError as error:
        raise PartError("no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, ValueError) as error:
        raise PartError(_short(error)) from error
    return f"bucket {endpoints.bucket}"


def check_milvus(endpoints: Endpoints, _state: State) -> str:
    """List the collections."""
    check_address(endpoints.milvus_uri, "Milvus", "MILVUS_URI")
    open_to_all = endpoints.milvus_uri.startswith("http://") and not endpoints.milvus_token
    local = open_to_all and not endpoints.milvus_db and _is_local(endpoints.milvus_uri)
    if local and _lists_collections(urlsplit(endpoints.milvus_uri).netloc):
        return ""
    pymilvus = load_pymilvus()
    try:
        client = pymilvus.MilvusClient(
            uri=endpoints.milvus_uri,
            token=plain(endpoints.milvus_token) or "",
            db_name=endpoints.milvus_db or "",
            timeout=SECONDS,
            dedicated=True,
        )
        with closing(client):
            client.list_collections()
    except pymilvus.MilvusException as error:
        raise PartError(str(error.message)) from error
    return ""


def _lists_collections(address: str) -> bool:
    """Make the call that MilvusClient.list_collections makes, without the second that importing it takes.

    Returns True when the answer is plainly good; for any other answer MilvusClient knows the reason.
    Raises PartError when there is none.
    """
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: Any = channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections")
        try:
            answer: bytes = call(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            raise PartError(f"no answer ({error.code().name.lower().replace('_', ' ')})") from error
    # An answer starts with its status, which is empty when all is well: field 1, length 0.
    return answer.startswith(b"\n\0")


def check_prefect(endpoints: Endpoints, state: State) -> str:
    """Ask the API whether it is well, and for a flow, with the credentials in force: the first it tells anybody."""
    _prefect(endpoints, state, "GET", "/health")
    _prefect(endpoints, state, "POST", "/flows/filter", {"limit": 1})
    return f"UI at {hidden(endpoints.prefect_ui_url)}"


def check_worker(endpoints: Endpoints, state: State) -> str:
    """Ask the API whether this very worker is online.

    Its heartbeat must be younger than its process and than the API's: one from before a restart says
    nothing about a worker that lost the API since.
    """
    born = max(state.born("worker"), state.born("prefect"))
    name = endpoints.worker_name
    filters = {"workers": {"status": {"any_": ["ONLINE"]}}}
    answer = _prefect(endpoints, state, "POST", f"/work_pools/{POOL}/workers/filter", filters)
    found = next((row for row in answer.json() if row["name"] == name), None)
    if not found or not found["last_heartbeat_time"]:
        raise PartError("the API has not heard of it yet")
    # Both ages are taken on one clock each, so that a server whose clock is wrong does not matter.
    # The Date header has whole seconds: one more keeps the heartbeat of a predecessor from counting.
    now = parsedate_to_datetime(answer.headers["Date"])
    silent = (now - datetime.fromisoformat(found["last_heartbeat_time"])).total_seconds()
    if found["status"] != "ONLINE" or silent + 1 > time.time() - born:
        raise PartError(f"the API last heard of it {max(silent, 0):.0f} s ago")
    return f"pool {POOL}"


def check_service(_endpoints: Endpoints, state: State) -> str:
    """Ask the service whether it is alive; what its parts do is theirs to say."""
    import http.client

    record = state.records.get("service")
    if record is None or not serving(record):
        raise PartError("it does not listen yet")
    try:
        with closing(http.client.HTTPConnection(urlsplit(record.url).netloc, timeout=SECONDS)) as connection:
            connection.request("GET", "/health")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise PartError(f"does not answer ({type(error).__name__})") from error
    if status != http.client.OK:
        raise PartError(f"answers {status}")
    return ""


def check_schedule(endpoints: Endpoints, state: State) -> str:
    """Ask the API when the next sync is due: a schedule that plans nothing looks like one that has nothing to do."""
    name = endpoints.pipeline
    try:
        deployment = _prefect(endpoints, state, "GET", f"/deployments/name/sync/{name}").json()
    except PartError as error:
        if "404" in str(error):
            raise PartError(f"sync/{name} is not deployed: run `lockstep up`") from error
        raise
    if deployment["paused"] or not any(schedule["active"] for schedule in deployment["schedules"]):
        return f"paused: sync/{name} runs on events and by hand only"
    planned = _runs(endpoints, state, deployment["id"], "SCHEDULED")
    now = parsedate_to_datetime(planned.headers["Date"])
    if not planned.json():
        if (now - datetime.fromisoformat(deployment["updated"])).total_seconds() < PLANNING_SECONDS:
            return f"the next sync of {name} is being planned"
        raise PartError(f"no run of sync/{name} is planned: the log of the Prefect server says why")
    due = datetime.fromisoformat(planned.json()[0]["expected_start_time"])
    late = (now - due).total_seconds()
    if late < LATE_SECONDS:
        return f"next sync of {name} at {due.astimezone():%H:%M:%S}"
    if _runs(endpoints, state, deployment["id"], "RUNNING", "PENDING").json():
        return f"a sync of {name} is running; the next one waits for it"
    raise PartError(f"a run of sync/{name} is {late:.0f} s late: is a worker of pool {POOL} online?")


def _runs(endpoints: Endpoints, state: State, deployment: str, *states: str) -> httpx.Response:
    """Return the first run of a deployment, by due time, that is in one of some states."""
    filters = {
        "flow_runs": {"state": {"type": {"any_": states}}},
        "deployments": {"id": {"any_": [deployment]}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
    }
    return _prefect(endpoints, state, "POST", "/flow_runs/filter", filters)


def check_vllm(endpoints: Endpoints, _state: State) -> str:
    """List the models."""
    key = plain(endpoints.vllm_api_key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = _http("GET", f"{endpoints.vllm_base_url}/models", headers)
    names = [str(row["id"]) for row in answer.json().get("data", [])]
    if endpoints.llm_model and endpoints.llm_model not in names:
        raise PartError(f"it serves {', '.join(names) or 'no model'}, not LLM_MODEL {endpoints.llm_model}")
    return endpoints.llm_model or ", ".join(names)


def check_ledger(endpoints: Endpoints, _state: State) -> str:
    """Open the database and ask it for one row; a SQLite file that is not there yet is well."""
    from sqlalchemy import text

    with _ledger(endpoints) as connection:
        if connection is None:
            return "made on first use"
        connection.execute(text("select 1"))
    return ""


def canary(endpoints: Endpoints, alias: str) -> dict[str, Any] | None:
    """Return the generation of an alias that is in canary: collection, live, share, step, steps, since, until (in ms).

    None when there is none, or the ledger cannot say.
    """
    import sqlalchemy as sa

    from tasks.ledger.tables import CANARIES

    try:
        with _ledger(endpoints) as connection:
            if connection is None or not sa.inspect(connection).has_table(CANARIES.name):
                return None
            row = connection.execute(sa.select(CANARIES).where(CANARIES.c.alias == alias)).mappings().one_or_none()
    except PartError:
        return None
    if row is None:
        return None
    chosen = {name: row[name] for name in ("collection", "live", "steps", "since")}
    until = row["since"] + int(1000 * row["hold_seconds"])
    return {**chosen, "share": row["steps"][row["step"]], "step": row["step"] + 1, "until": until}


@contextmanager
def _ledger(endpoints: Endpoints) -> Iterator[Connection | None]:
    """Connect to the ledger's database; None for a SQLite file that is not there, for a look makes none."""
    from pathlib import Path

    from sqlalchemy import create_engine, event, make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(endpoints.ledger_url.get_secret_value())
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            yield None
            return
        engine = create_engine(url)
        if url.get_backend_name() == "postgresql":
            from blocks.postgres import connect_in_time

            event.listen(engine, "do_connect", connect_in_time(SECONDS))
        with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, ImportError) as error:
        raise PartError(_short(error)) from error


def _prefect(
    endpoints: Endpoints, state: State, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    """Ask the API. The embedded one's password goes to the process that `up` started and to no other on its port."""
    own = state.records.get("prefect")
    if own and own.url == endpoints.prefect_api_url and not serving(own):
        raise PartError("it does not listen" if running(own) else "its process is gone: run `lockstep up`")
    headers = {}
    if key := plain(endpoints.prefect_api_key):
        headers["Authorization"] = f"Bearer {key}"
    elif auth := plain(endpoints.prefect_auth_string):
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    return _http(method, f"{endpoints.prefect_api_url}{path}", headers, body)


def _http(method: str, url: str, headers: dict[str, str], body: dict[str, Any] | None = None) -> httpx.Response:
    import httpx

    try:
        with httpx.Client(timeout=SECONDS, trust_env=not _is_local(url)) as client:
            answer = client.request(method, url, headers=headers, json=body)
            answer.raise_for_status()
            answer.json()
    except httpx.HTTPStatusError as error:
        raise PartError(f"it answers HTTP {error.response.status_code}") from error
    except httpx.InvalidURL:
        raise PartError(
            "that is no address: in a password '#', '/', '?' and '@' are written %23, %2F, %3F and %40"
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise PartError(_short(error)) from error
    return answer


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in LOCAL


def _short(error: Exception) -> str:
    """Return the first line of an error; libraries add pages of advice after it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
