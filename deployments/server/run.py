"""Run the service until a signal comes. Then running answers are finished, and new requests are refused.

python -m deployments.server.run PORT PIPELINE HOME      on 127.0.0.1, as `lockstep up` starts it
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import FrameType

import uvicorn

from deployments import state
from deployments.environment import load
from deployments.server.app import create_app
from deployments.server.middleware import LOOPBACK
from tasks.errors import MisuseError

DRAIN_SECONDS = 30
"""How long answers under way may take to end once the service stops."""


class Draining(uvicorn.Server):
    """A server that says of itself that it is stopping."""

    draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: the first signal waits for the answers under way, the second does not."""
        self.draining = True
        super().handle_exit(sig, frame)


def serve(
    default: str, host: str, port: int, names: frozenset[str] = frozenset(), own_key: str = "", public_url: str = ""
) -> None:
    """Serve until SIGTERM or SIGINT. ``names`` are the host names under which others call the service.

    On a loopback address nobody needs a key until there is one. ``own_key`` is that of the home's own commands.
    Raises ``MisuseError`` if others can reach ``host`` and ``names`` is empty.
    """
    if host not in LOOPBACK and not names:
        raise MisuseError(
            f"others can reach {host}: say under which names they may call the service, as in --allow-host ask.example"
        )
    server: Draining | None = None
    hosts = frozenset(LOOPBACK) | {name.lower() for name in names}
    app = create_app(
        default,
        hosts,
        lambda: bool(server and server.draining),
        local=host in LOOPBACK,
        own_key=own_key,
        public_url=public_url,
    )
    logging.getLogger("deployments.server").setLevel(logging.INFO)
    server = Draining(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http="h11",  # its limits on headers are those of the guard's tests
            log_level="warning",
            access_log=False,  # it would hold what is asked
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=75,
            h11_max_incomplete_event_size=64 << 10,
        )
    )
    server.run()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    port_, pipeline, home = sys.argv[1:]
    own = state.load(Path(home)).service_key
    serve(pipeline, "127.0.0.1", int(port_), own_key=own, public_url=load().public_url or "")
