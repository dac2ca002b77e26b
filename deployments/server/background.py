"""The service inside another process: on a free port of this machine, for that process alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from deployments.server.app import create_app
from tasks.errors import PartError

STARTED_SECONDS, STOPPED_SECONDS = 60.0, 5.0


class Started(uvicorn.Server):
    """A server that says when it listens, or that it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = threading.Event()

    def run_and_tell(self) -> None:
        """Serve until told to stop."""
        try:
            self.run()
        finally:
            self.told.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.told.set()

    @property
    def address(self) -> str:
        """The address on which it listens."""
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


@contextmanager
def background(default: str, key: str, public_url: str = "") -> Iterator[str]:
    """Serve inside the ``with``, and yield the address. Only who sends ``key``, or a key of the ledger, is answered.

    Raises ``PartError`` if the service does not start.
    """
    app = create_app(default, local=False, own_key=key, public_url=public_url)
    config = uvicorn.Config(
        app, port=0, http="h11", log_config=None, access_log=False, timeout_graceful_shutdown=int(STOPPED_SECONDS)
    )
    server = Started(config)
    thread = threading.Thread(target=server.run_and_tell, name="service", daemon=True)
    thread.start()
    if not server.told.wait(STARTED_SECONDS) or not server.started:
        raise PartError("Service: it did not start in this process. Run `lockstep serve` to see why.")
    try:
        yield server.address
    finally:
        server.should_exit = True
        thread.join(2 * STOPPED_SECONDS)
