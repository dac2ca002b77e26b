"""Run the service until a signal comes. Then running answers are finished, and new requests are refused.

python -m deployments.server.run PORT PIPELINE      on 127.0.0.1, as `lockstep up` starts it
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from deployments import state
from deployments.environment import Environment, load, plain
from deployments.server.access.rates import Rates
from deployments.server.app import create_app
from deployments.server.lean import leave_out
from deployments.server.middleware import LOOPBACK
from deployments.server.observability import tracing
from tasks.errors import MisuseError

LINE = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s"
DRAIN_SECONDS = 30
"""How long answers under way may take to end once the service stops."""


class Draining(uvicorn.Server):
    """A server that says of itself that it is stopping, and calls ``at_end`` once the last answer is out."""

    draining = False
    at_end: Callable[[], None] = staticmethod(lambda: None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: the first signal waits for the answers under way, the second does not."""
        self.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, before uvicorn gives the signal to the process a second time."""
        await super().shutdown(sockets)
        await asyncio.to_thread(self.at_end)


def log_plainly() -> None:
    """Write the service's own log lines to stderr as they are.

    Prefect's handler, which colours them, takes longer than anything else at the end of an answer.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter(LINE, "%H:%M:%S"))
    for own in (logging.getLogger("deployments.server"), logging.getLogger("lockstep.watch")):
        own.setLevel(logging.INFO)
        own.propagate, own.handlers = False, [lines]


def serve(env: Environment, default: str, host: str, port: int, names: frozenset[str] = frozenset()) -> None:
    """Serve until SIGTERM or SIGINT. ``names`` are the host names under which others call the service.

    ``env`` adds the name in its public address. On a loopback address without such a name nobody needs a key until
    there is one. The home's own commands have a key of their own. Raises ``MisuseError`` if others can reach ``host``
    but there is no name.
    """
    leave_out()
    public_url = env.public_url or ""
    called = {name.lower() for name in (*names, urlsplit(public_url).hostname or "") if name}
    if host not in LOOPBACK and not called:
        raise MisuseError(
            f"others can reach {host}: say under which names they may call the service, as in --allow-host ask.example"
        )
    server: Draining | None = None
    hosts = frozenset(LOOPBACK) | called
    app = create_app(
        default,
        hosts,
        lambda: bool(server and server.draining),
        local=host in LOOPBACK and not called,  # others reach it under a name, by way of a proxy
        own_key=state.load(env.home).service_key,
        public_url=public_url,
        frame_origins=tuple(env.frame_origins.split()),
        rates=Rates(env.rate_limit or "", plain(env.redis_url) or ""),
        watch_token=plain(env.watch_token) or "",
    )
    log_plainly()
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
    server.at_end = tracing.begin(env.otel_endpoint or "")
    server.run()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    serve(load(), sys.argv[2], "127.0.0.1", int(sys.argv[1]))
