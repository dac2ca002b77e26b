"""Drive a real browser by its DevTools protocol, and wait until a page shows an expected text."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 90.0  # seconds; a page of the UI takes three on an idle machine
SHOWN = "location.pathname + '\\n' + (document.body ? document.body.innerText : '')"


class Tab:
    """An open page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._calls = 0

    def go(self, url: str) -> None:
        """Open another address in this page."""
        self._call("Page.navigate", url=url)

    def shown(self) -> str:
        """Return the page's path and, from the second line on, its visible text."""
        found = self._call("Runtime.evaluate", expression=SHOWN)
        return str(found.get("result", {}).get("value", ""))  # empty between two pages

    def until(self, text: str) -> str:
        """Wait until the page shows a text. Return all of the page's text.

        Raises ``AssertionError`` with the page's text if the text does not appear.
        """
        end = time.monotonic() + PATIENCE
        while text not in (shown := self.shown()):
            assert time.monotonic() < end, f"no {text!r} in:\n{shown}"
            time.sleep(0.2)
        return shown

    def _call(self, method: str, **parameters: str) -> dict[str, Any]:
        """Call a method of the browser and return its result. Events before the answer are ignored."""
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(PATIENCE))).get("id") != self._calls:
            pass
        return dict(answer.get("result", {}))


@contextmanager
def opened(chromium: str, url: str, profile: Path, *flags: str) -> Iterator[Tab]:
    """Open an address in a new browser."""
    port = profile / "DevToolsActivePort"
    command = [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", url]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_page(port), max_size=None, proxy=None) as connection:
            yield Tab(connection)
    finally:
        browser.terminate()
        browser.wait(30)


def _page(port: Path) -> str:
    """Wait for the browser. Return the address of its page's debugger."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        written = port.read_text().split() if port.exists() else []
        if len(written) == 2:  # the port, and the path of the browser's own debugger
            pages = httpx.get(f"http://127.0.0.1:{written[0]}/json", trust_env=False, timeout=PATIENCE).json()
            if found := [page for page in pages if page["type"] == "page"]:
                return str(found[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(f"the browser opened no page within {PATIENCE:.0f} s")
