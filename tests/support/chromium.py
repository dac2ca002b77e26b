"""Debian's Chromium, driven by Playwright in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T = TypeVar("T")
CHROMIUM = Path("/usr/bin/chromium")


class Chromium:
    """A browser, and the thread that drives it.

    Playwright's event loop runs in its thread for as long as the browser is open. Prefect's client would take it for
    its own: so nothing else is done there (see :func:`elsewhere`).
    """

    def __init__(self) -> None:
        from playwright.sync_api import sync_playwright

        self._thread = ThreadPoolExecutor(1, "chromium")
        self._playwright = self.do(lambda: sync_playwright().start())
        launch = self._playwright.chromium.launch
        self.browser: Browser = self.do(lambda: launch(executable_path=str(CHROMIUM), args=["--no-sandbox"]))

    def do(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def close(self) -> None:
        self.do(self.browser.close)
        self.do(self._playwright.stop)
        self._thread.shutdown()
