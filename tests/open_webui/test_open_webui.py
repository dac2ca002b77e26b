"""The real Open WebUI, unchanged, over the service: its sources have the right numbers and open the right passages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from tasks.ledger.database import Database
from tasks.ledger.tables import ANSWERS
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, serving
from tests.support.chat_server import Say, StubChat, claims
from tests.support.chromium import CHROMIUM, Chromium
from tests.support.servers import ROOT, Server, free_port, missing

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROGRAM = ROOT / ".venv-open-webui" / "bin" / "open-webui"
ANSWER = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
    ("It is started with the green button.", [(2, "press the green button")]),
)
"""Two claims from one file: a page that groups sources by file would open the first passage for both."""
PATIENCE_MS = 60_000.0
T = TypeVar("T")


def open_webui(folder: Path, service: str, port: int) -> Server:
    """Return Open WebUI for one person, with the service as its only source of models."""
    if not PROGRAM.exists():
        missing("Open WebUI", "run `make open-webui`")
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "DATA_DIR": str(folder),
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": "of-this-test",
        "OPENAI_API_BASE_URLS": f"{service}/v1",
        "OPENAI_API_KEYS": "none",
        "ENABLE_OLLAMA_API": "False",
        "OFFLINE_MODE": "true",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "ANONYMIZED_TELEMETRY": "False",
        "RAG_EMBEDDING_ENGINE": "openai",  # otherwise it loads a model of its own
    }
    argv = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
    return Server(argv, folder / "open-webui.log", lambda: httpx.get(f"{url}/health").raise_for_status(), url, 180, env)


@dataclass(frozen=True)
class ChatPage:
    """Open WebUI in a browser. ``do`` works in the browser's thread; ``hosts`` are those that the page asked."""

    chromium: Chromium
    page: Page
    url: str
    hosts: set[str]

    def do(self, work: Callable[[Page], T]) -> T:
        return self.chromium.do(lambda: work(self.page))


@pytest.fixture
def chat_page(with_chat: str, tmp_path: Path) -> Iterator[ChatPage]:
    """Open WebUI over a service whose passages it may show in a frame."""
    if not CHROMIUM.exists():
        missing("Chromium", f"install Debian's package: there is no {CHROMIUM}")
    port, hosts = free_port(), set[str]()
    with serving(with_chat, frame_origins=(f"http://127.0.0.1:{port}",)) as service:
        server, chromium = open_webui(tmp_path, service.url, port), Chromium()
        try:
            server.start()
            page = chromium.do(lambda: chromium.browser.new_page(viewport={"width": 1400, "height": 900}))
            chromium.do(lambda: page.set_default_timeout(PATIENCE_MS))
            chromium.do(lambda: page.on("request", lambda asked: hosts.add(urlsplit(asked.url).hostname or "")))
            yield ChatPage(chromium, page, server.url, hosts)
        finally:
            chromium.close()
            server.stop()


@pytest.mark.timeout(600)
def test_two_claims_of_one_file_are_two_sources_and_each_opens_its_passage(
    chat_page: ChatPage, with_chat: str, chat: StubChat
) -> None:
    chat.replies = [(200, Say(ANSWER, between=0.02))]

    def ask(page: Page) -> None:
        page.goto(f"{chat_page.url}/?models={with_chat}")
        page.get_by_role("button", name=re.compile("Okay, Let's Go")).click()
        page.locator("#chat-input").click()
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        page.get_by_text("2 Sources").wait_for()

    def open_each(page: Page) -> list[list[str]]:
        """Open both citations, and return what is marked in the passage that opens beside the chat."""
        marked = []
        for heading in ("Maintenance", "Starting"):
            page.locator(".chat-assistant button").filter(has_text=heading[-8:]).first.click()  # it shortens names
            frame = page.frame_locator("iframe[src*='/passages/']")
            frame.get_by_text(f"Pump manual › {heading}").first.wait_for()
            marked.append(frame.locator("mark").all_inner_texts())
            styled = frame.locator("body").evaluate("body => getComputedStyle(body).fontFamily")
            assert "Times" not in styled, "the passage has lost its styles"
        return marked

    def reload(page: Page) -> str:
        page.reload()
        page.get_by_text("2 Sources").click()
        page.get_by_text("manuals/pump.md › Pump manual › Starting").wait_for()
        return page.locator(".chat-assistant").inner_text()

    chat_page.do(ask)
    quotes = [["every 400 hours"], ["press the green button"]]
    assert chat_page.do(open_each) == quotes
    shown = chat_page.do(reload)
    assert re.search(r"1\s+manuals/pump.md › Pump manual › Maintenance\s+2\s+manuals/pump.md › ", shown)
    assert chat_page.do(open_each) == quotes, "a reload keeps them"
    assert chat_page.hosts == {"127.0.0.1"}, "no other host learns of a source"

    assert any(is_task(one) for one in chat.requests), "it asks for a title"
    with Database(load_pipeline(with_chat).ledger) as ledger, ledger.transaction() as connection:
        query = sa.select(ANSWERS.c.route, ANSWERS.c.mode).where(ANSWERS.c.pipeline == with_chat)
        assert connection.execute(query).all() == [("/v1/chat/completions", "generated")], "which is no question"


def is_task(request: dict[str, Any]) -> bool:
    return str(request["messages"][-1]["content"]).startswith("### Task:")
