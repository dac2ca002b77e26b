"""Run a sync while the Prefect API is killed and restarted. Arguments: BUCKET S3_URL MILVUS_URL LEDGER_URL."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import urllib.request
from pathlib import Path

from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, free_port, s3_client, tool


def main(bucket: str, s3_url: str, milvus_url: str, ledger_url: str) -> None:
    """Start a separate API, sync, and restart the API in the middle."""
    port, folder = free_port(), Path(os.environ["PREFECT_HOME"])
    folder.mkdir(exist_ok=True)
    api = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = api
    argv = [tool("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    server = Server(argv, folder / "prefect.log", lambda: urllib.request.urlopen(f"{api}/health"), api, 120).start()
    atexit.register(server.stop)  # not earlier: at its end the process still reports to the API
    from prefect.client.orchestration import get_client

    from flows.sync import sync
    from tasks.crash_points import listeners

    restarted: list[str] = []

    def restart(place: str) -> None:
        if place == "batch written" and not restarted:
            restarted.append(place)
            assert server.process
            os.killpg(server.process.pid, 9)
            server.process.wait()
            threading.Thread(target=server.start).start()

    listeners.append(restart)
    s3 = Bucket(s3_client(s3_url), bucket)
    name = pipeline_maker(s3, s3_url, milvus_url, ledger_url)(batch_objects=4)
    report = sync(name)
    if restarted:
        sys.stdout.write("the API was restarted\n")
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(report.flow_run_id)  # type: ignore[arg-type]
        assert run.state
        sys.stdout.write(f"{report.new} new, {run.state.name}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
