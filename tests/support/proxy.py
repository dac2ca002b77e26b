"""A small TCP proxy that injects network faults: refuse, drop, delay, reset, truncate."""

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
    """A proxy to a server on this machine that injects faults on request.

    ``trouble`` is the fault of new connections. ``refuse`` closes them at once. ``drop`` reads all data and never
    answers. ``delay`` delays each piece. ``reset`` breaks them off with a RST after ``after`` bytes of the answer, and
    ``truncate`` closes them normally there. ``silent`` keeps connections open, reads all data, and passes nothing on in
    either direction.
    """

    def __init__(self, url: str) -> None:
        self.target = self.address(url)
        self.trouble: Trouble = "none"
        self.after = 0
        self.times = -1
        """Number of connections that get the fault; all of them if negative."""
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
        """Inject a fault from now on, and break open connections."""
        self.trouble, self.after, self.times = trouble, after, times
        if trouble != "none":
            for one in list(self._open):
                _reset(one)

    def swallow(self) -> None:
        """Fall silent, on open connections too, like a machine with a pulled network cable or a server that hangs."""
        self.trouble, self.times = "silent", -1

    def close(self) -> None:
        """Stop listening and break open connections."""
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
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)  # the timeout is only for connecting: a server may be quiet for longer than 5 s
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
    """Close a socket with a RST, not a FIN.

    A thread that waits for data of the socket keeps it open, whoever closes it. So that thread is woken first, which
    sends nothing.
    """
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            one.shutdown(socket.SHUT_RD)
        one.close()
