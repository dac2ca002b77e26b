"""Runs of a pipeline's deployments for automations to see, each in a process of its own. Arguments: PIPELINE WHAT.

fail         the real sync, of a pipeline that does not exist
quarantine   a stand-in for the sync that tells of 12 new objects in quarantine
lag          the events of an index that lags, and then has caught up, outside of any run
hang         a stand-in for the sync that never ends, with a sub-flow that sends no heartbeat
beat         the same for as long as three heartbeats may take, and then it ends well
"""

from __future__ import annotations

import sys
import time

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Pending

from flows.events import NAMED, emit_caught_up, emit_lagging, emit_quarantined
from flows.prefect_runs import without_heartbeat

KEYS = [f"scans/{number:02}.pdf" for number in range(12)]
SECONDS = {"hang": 3600, "beat": 100, "doze": 6}


@flow(name="index wave")
def wave(seconds: float) -> None:
    time.sleep(seconds)


@flow(name="sync")
def stand_in(pipeline: str, what: str) -> None:
    if what == "quarantine":
        emit_quarantined(pipeline, f"{pipeline}_g0001", len(KEYS), KEYS[:NAMED])
    else:
        with without_heartbeat():
            wave(SECONDS[what])


def main(pipeline: str, what: str) -> None:
    """Make a run, print its id, and execute it here."""
    if what == "lag":
        emit_lagging(pipeline, 125.04, 60.0)
        time.sleep(1)
        emit_caught_up(pipeline, 3.0, 60.0)
        return
    run, parameters = stand_in, {"pipeline": pipeline, "what": what}
    if what == "fail":
        from flows.sync import sync as run  # type: ignore[assignment]

        parameters = {"pipeline": pipeline}
    with get_client(sync_client=True) as client:
        deployed = client.create_deployment(
            client.create_flow_from_name("sync"), pipeline, tags=["lockstep", pipeline]
        )  # as in prefect.yaml
        made = client.create_flow_run_from_deployment(deployed, parameters=parameters, state=Pending())
    sys.stdout.write(f"{made.id}\n")
    sys.stdout.flush()
    run_flow(run, made, parameters=parameters, return_type="state")


if __name__ == "__main__":
    main(*sys.argv[1:3])
