"""Run the sync deployment while its Prefect server loses its memory, for longer than a lease lasts.

Arguments: BUCKET S3_URL MILVUS_URL LEDGER_URL, and optionally a limit in place of the one in prefect.yaml.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

import yaml

from tests.support.pipelines import pipeline_maker
from tests.support.servers import ROOT, Bucket, Server, free_port, s3_client, tool

LEASE_SECONDS = 30
"""The shortest lease that Prefect allows. Prefect renews it after three quarters of this time."""
LONG_SECONDS = 30


def main(bucket: str, s3_url: str, milvus_url: str, ledger_url: str, limit: int | None) -> None:
    """Start a separate server, run the deployment, restart the server meanwhile, and print the run's final state."""
    port, folder = free_port(), Path(os.environ["PREFECT_HOME"])
    folder.mkdir(exist_ok=True)
    api = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = api
    os.environ["PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION"] = str(LEASE_SECONDS)
    argv = [tool("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    server = Server(argv, folder / "prefect.log", lambda: urllib.request.urlopen(f"{api}/health"), api, 120).start()
    atexit.register(server.stop)
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Pending

    from flows.sync import sync
    from tasks.crash_points import listeners

    written: list[float] = []

    def restart(place: str) -> None:
        if place == "batch written":
            if not written:
                assert server.process
                os.killpg(server.process.pid, 9)
                server.process.wait()
                threading.Thread(target=server.start).start()
                time.sleep(LONG_SECONDS)
            written.append(time.monotonic())

    listeners.append(restart)
    name = pipeline_maker(Bucket(s3_client(s3_url), bucket), s3_url, milvus_url, ledger_url)(batch_objects=4)
    given = {"pipeline": name}
    with get_client(sync_client=True) as client:
        deployed = client.create_deployment(client.create_flow_from_name("sync"), name, concurrency_limit=limit)
        run = client.create_flow_run_from_deployment(deployed, parameters=given, state=Pending())
    state = run_flow(sync, run, parameters=given, return_type="state")
    sys.stdout.write(f"{len(written)} batches, {state.name}\n")


if __name__ == "__main__":
    of_sync = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"][0].get("concurrency_limit") or {}
    main(*sys.argv[1:5], int(sys.argv[5]) if len(sys.argv) > 5 else of_sync.get("limit"))
