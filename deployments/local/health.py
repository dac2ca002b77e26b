"""Check the health of each part with a request that only a working part can answer.

A check takes the endpoints (and, for the worker, the state with its process). It returns a detail to show, or "", and
raises PartError with the reason when the part is not healthy. Each check gives up after ``SECONDS``. Checks use the
lightest real client, so that `lockstep up` is instant when all parts are up.
"""

from __future__ import annotations

import base64
import time
from contextlib import closing
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

    from deployments.endpoints import Endpoints

SECONDS = 5.0
LOCAL = ("127.0.0.1", "localhost", "::1")
POOL = "lockstep"
LATE_SECONDS = 60.0
# Prefect plans the runs of a new or changed deployment with a delay of some seconds.
PLANNING_SECONDS = 15.0


def check_s3(endpoints: Endpoints, _state: State) -> str:
    """Request the bucket with the keys in use."""
    if _is_local(endpoints.s3_endpoint) and _has_bucket(endpoints):
        return f"bucket {endpoints.bucket}"
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    config = Config(
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        # With an empty mapping botocore sends no request for this machine to a company's proxy.
        proxies={} if _is_local(endpoints.s3_endpoint) else None,
    )
    try:
        client: Any = botocore.session.get_session().create_client(
            "s3",
            region_name=endpoints.s3_region,
            endpoint_url=endpoints.s3_endpoint,
            aws_access_key_id=endpoints.s3_access_key,
            aws_secret_access_key=plain(endpoints.s3_secret_key),
            aws_session_token=plain(endpoints.s3_session_token),
            config=config,
        )
        client.head_bucket(Bucket=endpoints.bucket)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        reasons = {404: "it does not exist", 403: "the server refuses the keys (AWS_ACCESS_KEY_ID)"}
        raise PartError(f"bucket {endpoints.bucket}: {reasons.get(status, f'HTTP {status}')}") from error
    except NoCredentialsError as error:
        raise PartError("no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, ValueError) as error:
        raise PartError(short(error)) from error
    return f"bucket {endpoints.bucket}"


def _has_bucket(endpoints: Endpoints) -> bool:
    """Make the same request as botocore's client, without the tenth of a second that loading its model of S3 takes.

    Returns True if the answer is good. For any other answer, ask botocore's client for the reason.
    """
    import http.client
    from urllib.parse import quote

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    address = urlsplit(endpoints.s3_endpoint)
    secret = plain(endpoints.s3_secret_key)
    if address.scheme != "http" or address.path.strip("/") or not endpoints.s3_access_key or not secret:
        return False
    path = f"/{quote(endpoints.bucket)}"
    request = AWSRequest("HEAD", f"http://{address.netloc}{path}")
    keys = Credentials(endpoints.s3_access_key, secret, plain(endpoints.s3_session_token))
    S3SigV4Auth(keys, "s3", endpoints.s3_region).add_auth(request)
    try:
        with closing(http.client.HTTPConnection(address.netloc, timeout=SECONDS)) as connection:
            connection.request("HEAD", path, headers=dict(request.headers.items()))
            return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


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
    """Make the same call as MilvusClient.list_collections, without the second that importing it takes.

    Returns True if the answer is good. For any other answer, ask MilvusClient for the reason. Raises PartError
    without an answer.
    """
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: Any = channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections")
        try:
            answer: bytes = call(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            raise PartError(f"no answer ({error.code().name.lower().replace('_', ' ')})") from error
    # A good answer starts with an empty status: field 1, length 0.
    return answer.startswith(b"\n\0")


def check_prefect(endpoints: Endpoints, state: State) -> str:
    """Ask the API for its health, and for a flow. /health needs no credentials, so only the second call checks them."""
    _prefect(endpoints, state, "GET", "/health")
    _prefect(endpoints, state, "POST", "/flows/filter", {"limit": 1})
    return f"UI at {hidden(endpoints.prefect_ui_url)}"


def check_worker(endpoints: Endpoints, state: State) -> str:
    """Ask the API whether this home's worker is online.

    Its last heartbeat must be later than the start of its process and of the API's. A heartbeat from before a restart
    proves nothing: the worker may have lost the API since.
    """
    born = max(state.born("worker"), state.born("prefect"))
    name = endpoints.worker_name
    filters = {"workers": {"status": {"any_": ["ONLINE"]}}}
    answer = _prefect(endpoints, state, "POST", f"/work_pools/{POOL}/workers/filter", filters)
    found = next((row for row in answer.json() if row["name"] == name), None)
    if not found or not found["last_heartbeat_time"]:
        raise PartError("the API has not heard of it yet")
    # Each age is measured with one clock, so that a wrong clock on the server does not matter. The Date header has
    # whole seconds, so one second is added. Otherwise a predecessor's heartbeat could count.
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
    """Ask the API for the time of the next sync, since a broken schedule looks the same as an idle one."""
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
        raise PartError(f"no run of sync/{name} is planned: see the log of the Prefect server")
    due = datetime.fromisoformat(planned.json()[0]["expected_start_time"])
    late = (now - due).total_seconds()
    if late < LATE_SECONDS:
        return f"next sync of {name} at {due.astimezone():%H:%M:%S}"
    if _runs(endpoints, state, deployment["id"], "RUNNING", "PENDING").json():
        return f"a sync of {name} is running; the next one waits for it"
    raise PartError(f"a run of sync/{name} is {late:.0f} s late: is a worker of pool {POOL} online?")


def _runs(endpoints: Endpoints, state: State, deployment: str, *states: str) -> httpx.Response:
    """Return a deployment's first run, by due time, in one of the given states."""
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


def _prefect(
    endpoints: Endpoints, state: State, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    """Call Prefect's API. The embedded server's password goes only to the process that `up` started on that port."""
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
        # Certificates take a while to load, and a plain address needs none: no redirect is followed.
        secure = not url.startswith("http:")
        with httpx.Client(timeout=SECONDS, trust_env=not _is_local(url), verify=secure) as client:
            answer = client.request(method, url, headers=headers, json=body)
            answer.raise_for_status()
            answer.json()
    except httpx.HTTPStatusError as error:
        raise PartError(f"it answers HTTP {error.response.status_code}") from error
    except httpx.InvalidURL:
        raise PartError(
            "the address is invalid. In a password, write '#', '/', '?' and '@' as %23, %2F, %3F and %40"
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise PartError(short(error)) from error
    return answer


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in LOCAL


def short(error: Exception) -> str:
    """Return the first line of an error. Libraries add pages of advice after it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
