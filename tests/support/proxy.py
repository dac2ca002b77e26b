"""A small TCP proxy that does to a connection what networks do: refuse, drop, delay, reset, truncate."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

Trouble = Literal["none", "refuse", "drop", "delay", "reset", "truncate", "silent"]


class Proxy:
    """Passes bytes on to a server on this machine, and makes trouble when told to.

    ``trouble`` says what happens to connections from now on: ``refuse`` closes them at once, ``drop`` takes what
    is sent and never answers, ``delay`` lets each piece wait, ``reset`` breaks them off with a RST after ``after``
    bytes of answer, ``truncate`` ends them in good order there. ``silent`` takes what is sent on connections that
    stay open, and passes nothing on, in neither direction.
    """

    def __init__(self, url: str) -> None:
        self.target = self.address(url)
        self.trouble: Trouble = "none"
        self.after = 0
        self.times = -1
        """How many connections get the trouble; all of them when negative."""
        self.troubled = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def address(url: str) -> tuple[str, int]:
        """Return host and port of a server."""
        return urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80

    def make(self, trouble: Trouble, after: int = 0, times: int = -1) -> None:
        """Make trouble from now on, and break what is open."""
        self.trouble, self.after, self.times = trouble, after, times
        if trouble != "none":
            for one in list(self._open):
                _reset(one)

    def swallow(self) -> None:
        """Fall silent, on open connections too, as a machine whose network cable is pulled, or a server that hangs."""
        self.trouble, self.times = "silent", -1

    def close(self) -> None:
        """Stop listening and break what is open."""
        self._listener.close()
        for one in list(self._open):
            _reset(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        trouble: Trouble = self.trouble if self.times else "none"
        if trouble != "none":
            self.times -= self.times > 0
            self.troubled += 1
        if trouble == "refuse":
            _reset(client)
            return
        if trouble in ("drop", "silent"):
            self._open.add(client)
            with suppress(OSError):
                while client.recv(65536):
                    pass
            return
        with suppress(OSError):
            server = socket.create_connection(self.target, 5)
            server.settimeout(None)  # of the attempt alone: a server that says nothing for 5 s is no trouble
            self._open |= {client, server}
            threading.Thread(target=self._pass_on, args=[client, server, "none"], daemon=True).start()
            self._pass_on(server, client, trouble)

    def _pass_on(self, source: socket.socket, sink: socket.socket, trouble: Trouble) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                if self.trouble == "silent":
                    continue
                if trouble == "delay":
                    time.sleep(0.2)
                if trouble in ("reset", "truncate") and passed + len(data) > self.after:
                    sink.sendall(data[: self.after - passed])
                    if trouble == "reset":
                        _reset(sink)
                    break
                sink.sendall(data)
                passed += len(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
                self._open.discard(one)


def _reset(one: socket.socket) -> None:
    """Close with a RST, not a FIN."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
