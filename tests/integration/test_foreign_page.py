"""What a page of another origin, open in the browser of a person whose stack runs, can read or do: nothing."""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from blocks.milvus_store import MilvusStore
from deployments.endpoints import Endpoints
from deployments.environment import Environment
from deployments.local import stack
from tests.integration.test_stack import environment, silent
from tests.support.browser import opened
from tests.support.servers import missing

EVIL = "evil.example"
POINTED = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
PAGE = """<!doctype html><script>
const socket = url => new Promise((good, bad) => {
  const it = new WebSocket(url, ['prefect']);
  it.onopen = () => good('open');
  it.onerror = () => bad(new Error('refused'));
});
const tried = async ([name, url, options]) => {
  try {
    if (url.startsWith('ws')) return [name, await socket(url)];
    const answer = await fetch(url, options);
    return [name, answer.type === 'opaque' ? '' : `${answer.status} ${await answer.text()}`];
  } catch (error) { return [name, '']; }
};
Promise.all(TRIES.map(tried)).then(found => fetch('/report', {method: 'POST', body: JSON.stringify(found)}));
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """Where the browser is; in CI there has to be one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return found or missing("chromium", "apt-get install chromium")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A stack in a home that everybody may enter."""
    home = tmp_path_factory.mktemp("entered")
    home.chmod(0o755)
    (home / "ledger.db").touch(mode=0o644)
    env = environment(home)
    before = os.umask(0o022)
    try:
        stack.up(env, silent)
        yield env
    finally:
        stack.down(env, silent)
        os.umask(before)


@pytest.fixture(scope="module")
def here(env: Environment) -> Endpoints:
    return stack.endpoints(env)


@pytest.fixture(scope="module")
def api(here: Endpoints) -> Iterator[httpx.Client]:
    """The Prefect API, for those who know the password."""
    assert here.prefect_auth_string
    user, _, password = here.prefect_auth_string.get_secret_value().partition(":")
    with httpx.Client(base_url=here.prefect_api_url, auth=(user, password), timeout=30) as client:
        yield client


@contextmanager
def page(tries: list[tuple[str, str, dict[str, Any]]]) -> Iterator[tuple[str, queue.Queue[Any]]]:
    """Serve a page that makes requests and reports what it could read of the answers."""
    reports: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(PAGE.replace("TRIES", json.dumps(tries)) if self.path == "/" else "readable")

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer("")

        def answer(self, body: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{EVIL}:{server.server_port}", reports
        server.shutdown()


def tries(here: Endpoints, own: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Requests to every embedded server: ones that a browser sends at once, and ones that it asks leave for."""
    assert here.prefect_auth_string
    prefect, json_type = here.prefect_api_url, {"Content-Type": "application/json"}
    secrets, flow = json.dumps({"include_secrets": True}), json.dumps({"name": "evil"})
    sockets = prefect.replace("http", "ws", 1)
    grpc = {"Content-Type": "application/grpc"}
    return [
        ("own", own, {}),
        ("health", f"{prefect}/health", {}),
        ("settings", f"{prefect}/admin/settings", {}),
        ("secrets, at once", f"{prefect}/block_documents/filter", {"method": "POST", "body": secrets}),
        ("secrets", f"{prefect}/block_documents/filter", {"method": "POST", "body": secrets, "headers": json_type}),
        ("flow, at once", f"{prefect}/flows/", {"method": "POST", "body": flow}),
        ("flow, unseen", f"{prefect}/flows/", {"method": "POST", "body": flow, "mode": "no-cors"}),
        ("flow", f"{prefect}/flows/", {"method": "POST", "body": flow, "headers": json_type}),
        ("with credentials", f"{prefect}/admin/version", {"credentials": "include"}),
        ("link", here.prefect_open_url, {}),
        ("ui", f"{here.prefect_ui_url}/ui-settings", {}),
        ("events in", f"{sockets}/events/in", {}),
        ("events out", f"{sockets}/events/out", {}),
        ("s3", here.s3_endpoint, {}),
        ("s3 bucket", f"{here.s3_endpoint}/{here.bucket}", {}),
        ("s3 put", f"{here.s3_endpoint}/{here.bucket}/evil", {"method": "PUT", "body": "x"}),
        ("s3 post", f"{here.s3_endpoint}/{here.bucket}", {"method": "POST", "body": "x", "mode": "no-cors"}),
        ("milvus", here.milvus_uri, {}),
        ("milvus call", f"{here.milvus_uri}/milvus.proto.milvus.MilvusService/ShowCollections",
         {"method": "POST", "body": "\0\0\0\0\0", "headers": grpc}),
        ("milvus call, unseen", f"{here.milvus_uri}/milvus.proto.milvus.MilvusService/ShowCollections",
         {"method": "POST", "body": "\0\0\0\0\0", "mode": "no-cors"}),
    ]  # fmt: skip


def test_a_page_of_another_origin_gets_nothing(
    chromium: str, here: Endpoints, api: httpx.Client, tmp_path: Path
) -> None:
    with page(tries(here, "/readable")) as (url, reports), opened(chromium, url, tmp_path, POINTED):
        found = dict(reports.get(timeout=120))
    assert found.pop("own") == "200 readable", "the page can read what is its own"
    assert {name: text for name, text in found.items() if text} == {}
    assert len(found) == len(tries(here, "")) - 1
    assert "evil" not in {flow["name"] for flow in api.post("/flows/filter", json={}).json()}
    assert api.post("/block_documents/filter", json={"include_secrets": True}).status_code == 200


def test_a_name_that_points_here_gets_nothing(chromium: str, here: Endpoints, tmp_path: Path) -> None:
    """A page whose server moves its own name to this machine is of the same origin as what answers there."""
    port = urlsplit(here.prefect_api_url).port
    for path in ("/api/health", "/runs", "/ui-settings"):
        with opened(chromium, f"http://{EVIL}:{port}{path}", tmp_path / path[1:], POINTED) as tab:
            assert "api_url" not in tab.until("answers only at")


def test_foreign_hosts_and_origins_are_refused_by_every_server(here: Endpoints) -> None:
    for headers in ({"Host": EVIL}, {"Origin": f"https://{EVIL}"}, {"Origin": "null"}):
        for method in ("GET", "POST", "PUT", "OPTIONS"):
            for url in (f"{here.prefect_api_url}/health", here.prefect_ui_url, f"{here.s3_endpoint}/{here.bucket}"):
                answer = httpx.request(method, url, headers=headers, trust_env=False)
                # rclone answers 400 to a request without a signature, before it looks at anything else.
                assert answer.status_code in (400, 401, 403), (method, url, headers)
                assert not url.startswith(here.prefect_ui_url) or answer.status_code == 403
                assert "<Contents>" not in answer.text
                assert not [name for name in answer.headers if name.startswith("access-control-")]
            with pytest.raises(httpx.HTTPError):
                httpx.request(method, here.milvus_uri, headers=headers, trust_env=False)


def test_milvus_speaks_no_protocol_of_a_browser(here: Endpoints) -> None:
    """Browsers speak HTTP/2 over TLS alone; an HTTP/1.1 request ends with a protocol error and no answer."""
    address = urlsplit(here.milvus_uri)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.request("POST", "/milvus.proto.milvus.MilvusService/ShowCollections", b"\0\0\0\0\0")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()


def test_without_the_password_prefect_tells_nothing(here: Endpoints) -> None:
    for auth in (None, ("lockstep", "wrong"), ("lockstep", "")):
        with httpx.Client(base_url=here.prefect_api_url, auth=auth, trust_env=False) as client:
            assert client.get("/admin/version").status_code == 401
            assert client.post("/block_documents/filter", json={"include_secrets": True}).status_code == 401


def test_one_link_opens_the_ui(
    chromium: str, env: Environment, here: Endpoints, api: httpx.Client, tmp_path: Path
) -> None:
    flow = api.post("/flows/", json={"name": "sync"}).json()["id"]
    run = {"flow_id": flow, "name": "crimson-otter", "state": {"type": "COMPLETED"}}
    assert api.post("/flow_runs/", json=run).status_code == 201
    with opened(chromium, f"{here.prefect_ui_url}/runs", tmp_path / "stranger") as tab:
        assert "1 run" not in tab.until("Authentication failed")
    with opened(chromium, here.prefect_open_url, tmp_path / "owner") as tab:
        assert "login" not in tab.until("\n1 run\n").lower()
        tab.go(f"{here.prefect_open_url[:-6]}AAAAA=")
        tab.until("not, or no longer, valid")
        tab.go(f"{here.prefect_ui_url}/runs")
        tab.until("\n1 run\n")  # still logged in
    assert here.prefect_open_url.partition("#")[2] not in (env.home / "logs" / "prefect.log").read_text()


def test_what_the_parts_write_is_nobody_elses(env: Environment, here: Endpoints, api: httpx.Client) -> None:
    """The home may be entered; what stands there and in its folders may not."""
    assert api.get("/admin/version").status_code == 200
    assert here.s3_secret_key
    s3 = boto3.client(
        "s3", endpoint_url=here.s3_endpoint, aws_access_key_id=here.s3_access_key, region_name=here.s3_region,
        aws_secret_access_key=here.s3_secret_key.get_secret_value(),
    )  # fmt: skip
    s3.put_object(Bucket=here.bucket, Key="a/b.md", Body=b"text")
    assert (env.home / "s3" / here.bucket / "a" / "b.md").exists()
    MilvusStore(uri=here.milvus_uri).get_client().create_collection("mine", dimension=4)
    open_to_others = {
        str(path.relative_to(env.home)): oct(path.stat().st_mode)
        for path in env.home.rglob("*")
        # Prefect copies its UI, which everybody has, with the modes of the package; the folder above is closed.
        if not path.is_relative_to(env.home / "prefect" / "ui")
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others == {}
