"""The page at `/` in a real browser: it asks, shows what is checked, opens passages, and asks nobody else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import pytest
import sqlalchemy as sa

from deployments.server.page.templates import HERE
from tasks.ledger.changes import forget_changes, record_changes, waiting_changes
from tasks.ledger.database import Database
from tasks.ledger.keys import create_key
from tasks.ledger.objects import count_objects, record_suspects
from tasks.ledger.tables import ANSWERS
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.support.chat_server import Say, StubChat, claims
from tests.support.chromium import CHROMIUM, Chromium
from tests.support.servers import missing, sqlite_url

if TYPE_CHECKING:
    from playwright.sync_api import Page

T = TypeVar("T")
LONG = "A" * 120
GROUNDED = claims(
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
    ("Only K7 fits.", [(1, "Use filter type K7 only")]),
    (f"It <b>sings</b> <img src=x onerror=alert(1)> {LONG}.", [(1, "it sings")]),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    if not CHROMIUM.exists():
        missing("Chromium", f"install Debian's package: there is no {CHROMIUM}")
    chromium = Chromium()
    yield chromium
    chromium.close()


class Pages:
    """The pages of one test, in which no page may complain or ask another host. Call it to open an address."""

    def __init__(self, chromium: Chromium, url: str) -> None:
        self.chromium, self.url = chromium, url
        self._contexts: list[Any] = []
        self.complaints: list[str] = []

    def __call__(self, path: str = "/", url: str = "", width: int = 1200, **options: Any) -> Page:
        context = self.chromium.browser.new_context(viewport={"width": width, "height": 800}, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)
        page.goto((url or self.url) + path)
        return page

    def forgive(self, status: int) -> None:
        """Browsers complain of every refusal; those of this status were asked for."""
        self.complaints = [one for one in self.complaints if str(status) not in one]

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _note(self, request: Any) -> None:
        if request.url.startswith("http") and urlsplit(request.url).hostname != "127.0.0.1":
            self.complaints.append(f"asked {request.url}")


@pytest.fixture
def open_page(chromium: Chromium, service: Service) -> Iterator[Pages]:
    pages = Pages(chromium, service.url)
    yield pages
    chromium.do(pages.close)
    assert not pages.complaints


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in the browser's thread."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        fixtures["open_page"].chromium.do(lambda: test(**fixtures))

    return run


def elsewhere(work: Callable[[], T]) -> T:
    """Do what needs Prefect in a thread that has no event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def at(pipeline: str, question: str = QUESTION) -> str:
    return f"/?q={quote(question)}&pipeline={pipeline}"


def done(page: Page) -> None:
    page.wait_for_selector("#after:not([hidden])")


@in_browser
def test_an_answer_comes_claim_by_claim_and_its_passage_opens(open_page: Pages, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED, between=0.05))]
    page = open_page(f"/?pipeline={with_chat}")
    page.wait_for_selector("#state .generation")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector("#text[aria-busy=true] .claim")
    assert page.locator("#text .claim").count() < 3, "the first claim came before the last"
    assert page.locator("#go").inner_text() == "Stop"
    done(page)
    assert parameters(page) == {"q": QUESTION, "pipeline": with_chat}
    assert page.locator("#text .claim").count() == 3
    assert page.locator("#text .claim.unverified").inner_text().startswith("It <b>sings</b> <img")
    assert page.locator("#text .unsure").get_attribute("aria-label") == "not verified"
    assert "below" in page.locator("#mode").inner_text()
    assert "marked [?]" in page.locator("#notes").inner_text()
    marks = page.locator("#text .mark")
    assert marks.all_inner_texts() == ["1", "1"]
    marks.nth(1).hover()
    assert "“Use filter type K7 only”" in page.locator("#tip").inner_text()
    marks.nth(0).focus()
    assert "“every 400 hours”" in page.locator("#tip").inner_text()
    for position, said in enumerate(["every 400 hours", "Use filter type K7 only"]):
        marks.nth(position).click()
        page.frame_locator("#frame").get_by_text(said, exact=True).and_(
            page.frame_locator("#frame").locator("mark")
        ).wait_for()
    assert page.locator("#opened").inner_text() == "1 · manuals/pump.md"
    page.keyboard.press("Escape")
    assert not page.locator("#pane").is_visible()
    assert marks.nth(1).evaluate("mark => mark === document.activeElement")
    page.keyboard.press("1")
    page.frame_locator("#frame").locator("mark").wait_for()
    page.frames[-1].wait_for_load_state("load")
    page.locator("#frame").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("#pane", state="hidden")


def parameters(page: Page) -> dict[str, str]:
    return dict(httpx.URL(page.url).params)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
@in_browser
def test_everybody_can_use_it(open_page: Pages, with_chat: str, chat: StubChat, scheme: Any, width: int) -> None:
    """axe finds nothing, with an answer and with an open passage, and nothing is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    chat.replies = [(200, Say(GROUNDED))]
    page = open_page("/", width=width, color_scheme=scheme, bypass_csp=True)  # axe brings its own script
    page.wait_for_selector("#state .generation")

    def check() -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    check()
    page.goto(page.url + at(with_chat).removeprefix("/"))
    done(page)
    page.locator("#down").click()
    check()
    page.locator("#text .mark").first.click()
    frame = page.frame_locator("#frame")
    frame.locator("mark").wait_for()
    check()
    inside = frame.locator("html").evaluate("page => page.scrollWidth - page.clientWidth")
    assert inside == 0


@in_browser
def test_a_link_of_another_site_waits_for_a_person(open_page: Pages, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    page = open_page("/")
    address = open_page.url + at(with_chat)
    page.goto("about:blank")
    page.set_content(f'<a href="{address.replace("&", "&amp;")}">ask</a>')
    page.locator("a").click()
    page.wait_for_selector("#led:not([hidden])")
    page.wait_for_selector("#state .generation")
    assert page.locator("#q").input_value() == QUESTION
    assert not chat.requests
    page.keyboard.press("Enter")
    done(page)
    assert not page.locator("#led").is_visible()
    assert page.locator("#text .claim").count() == 3
    page.reload()  # the browser does so in its own name
    done(page)


@in_browser
def test_a_verdict_is_kept_with_its_reason(open_page: Pages, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    page = open_page(at(with_chat))
    done(page)
    page.locator("#up").click()
    page.get_by_text("Noted.", exact=True).wait_for()
    assert page.locator("#up").get_attribute("aria-pressed") == "true"
    page.keyboard.type("It is all there.")
    page.keyboard.press("Enter")
    page.get_by_text("Thank you, noted.").wait_for()
    block = elsewhere(lambda: load_pipeline(with_chat))
    with Database(block.ledger) as ledger, ledger.transaction() as connection:
        query = sa.select(ANSWERS.c.verdict, ANSWERS.c.reason).where(ANSWERS.c.pipeline == with_chat)
        assert connection.execute(query).all() == [("up", "It is all there.")]


@in_browser
def test_an_answer_is_copied_with_its_sources(
    open_page: Pages, service: Service, with_chat: str, chat: StubChat
) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    page = open_page(at(with_chat), permissions=["clipboard-read", "clipboard-write"])
    done(page)
    page.locator("#copy").click()
    page.get_by_text("Copied.", exact=True).wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "every 400 hours. [1] Only K7 fits. [1]" in copied
    assert "1. manuals/pump.md › Pump manual › Maintenance: “every 400 hours”" in copied
    (url,) = re.findall(r"http\S+", copied)
    assert "<mark" in httpx.get(url).text
    page.locator("#link").click()
    page.get_by_text("Link copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert dict(httpx.URL(link).params) == parameters(page) == {"q": QUESTION, "pipeline": with_chat}


@in_browser
def test_without_an_answer_the_page_says_why(open_page: Pages, index: Index, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(claims(answerable=False)))]
    page = open_page(at(with_chat))
    done(page)
    assert page.locator("#mode").inner_text().startswith("The documents do not answer this.")
    assert page.locator("#text").inner_text()
    chat.replies = [(500, {"error": {"message": "down"}}), (200, Say(GROUNDED))]
    page.locator("#go").click()
    page.wait_for_selector("#error:not([hidden])")
    assert "Chat model" in page.locator("#error").inner_text()
    page.get_by_text("Try again").click()
    done(page)
    assert not page.locator("#error").is_visible()
    never = elsewhere(lambda: index.make(name="page-never", alias="page_never"))
    empty = open_page(f"/?pipeline={never}")
    empty.locator("#state", has_text="lockstep sync").wait_for()
    open_page.forgive(502)


@in_browser
def test_an_answer_can_be_stopped(open_page: Pages, with_chat: str, chat: StubChat) -> None:
    chat.replies = [(200, Say(GROUNDED, between=2.0))]
    page = open_page(at(with_chat))
    page.wait_for_selector("#text[aria-busy=true]", state="attached")
    page.keyboard.press("Escape")
    page.wait_for_selector("#text[aria-busy=false]", state="attached")
    assert page.locator("#go").inner_text() == "Ask"
    assert not page.locator("#error").is_visible()


@in_browser
def test_the_page_asks_for_a_key_and_keeps_it_for_the_tab(open_page: Pages, index: Index) -> None:
    with serving(index.name, local=False, own_key="lsk_own") as keyed:
        page = open_page(at(index.name), url=keyed.url)
        page.locator("#secret").fill("wrong")
        page.locator("#secret").press("Enter")
        page.wait_for_selector("#error:not([hidden])")
        assert "unknown, expired or revoked" in page.locator("#error").inner_text()
        page.locator("#secret").fill("lsk_own")
        page.locator("#secret").press("Enter")
        done(page)
        page.wait_for_selector("#state .generation")
        assert not page.locator("#key").is_visible()
        page.locator("#text .mark").first.click()
        page.frame_locator("#frame").locator("mark").wait_for()  # a passage needs none
        page.reload()
        done(page)
        assert page.evaluate("JSON.stringify(localStorage)") == "{}"
        assert "lsk_own" not in page.url + page.content()
        page.context.close()
    open_page.forgive(401)


def test_the_page_brings_all_it_needs_and_nothing_inline(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; base-uri 'none'")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*src)|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", page.text)
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    for name in ("nothing.js", "..%2froutes.py", "%2e%2e/routes.py", "page.html"):
        assert client.get(f"/static/{name}").status_code == 404


def test_what_the_page_is_made_of_is_installed_with_it() -> None:
    project = tomllib.loads((HERE.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["deployments.server.page"]
    for path in [*HERE.rglob("*.html"), *HERE.rglob("static/*")]:
        assert any(fnmatch(str(path.relative_to(HERE)), pattern) for pattern in patterns), path


def test_the_state_is_that_of_the_ledger(client: httpx.Client, index: Index) -> None:
    told = client.get("/state").json()
    with Database(load_pipeline(index.name).ledger) as ledger:
        counts = count_objects(ledger, told["generation"])
        assert (told["objects"], told["chunks"], told["quarantined"]) == (counts["indexed"], counts["chunks"], 0)
        assert told["canary"] is None
        assert told["notes"] == []
        assert 0 <= told["age_seconds"] < 3600
        assert told["lag_seconds"] == 0
        alias = load_pipeline(index.name).alias
        record_changes(ledger, alias, ["page-state.md"])
        try:
            late = client.get("/state").json()
            assert 0 < late["lag_seconds"] < 60
        finally:
            forget_changes(ledger, alias, waiting_changes(ledger, alias, 10))
        other = index.make(name="page-state")  # another name for the same index
        assert client.get("/state", params={"pipeline": other}).json()["synced_at"] == told["synced_at"]
    assert client.get("/state", params={"pipeline": "nobody"}).status_code == 404


def test_a_tenants_key_counts_what_is_the_tenants(index: Index, tmp_path: Path) -> None:
    from flows.sync import sync

    own = sqlite_url(tmp_path)  # where there is a key, everybody needs one
    name = index.make(name="page-tenants", alias="page_tenants", tenants=True, ledger=own)
    sync(name)
    with serving(name) as service, Database(load_pipeline(name).ledger) as ledger, service.client() as client:
        whole = client.get("/state").json()
        assert (whole["objects"], whole["waiting"]) == (2, 0)
        record_suspects(ledger, whole["generation"], ["Manuals/a.md", "manuals-b/c.md", "manuals/d.md"], "")
        keys = {tenant: create_key(ledger, f"of '{tenant}'", tenant) for tenant in ("manuals", "nobody", "")}
        shown = {}
        for tenant, (_, text) in keys.items():
            answer = client.get("/state", headers={"x-api-key": text})
            shown[tenant] = answer.status_code, answer.json().get("objects"), answer.json().get("waiting")
    assert shown == {"manuals": (200, 1, 1), "nobody": (200, 0, 0), "": (400, None, None)}


def test_a_pipeline_that_was_saved_just_now_is_found_by_all_who_ask_at_once(index: Index) -> None:
    """A page asks for the list and for one pipeline together: the second must not hold what the first has not heard."""
    with serving(index.name) as service, service.client() as client:
        client.get("/v1/models")
        new = index.make(name="page-newer")

        def state(_n: int) -> int:
            return httpx.get(f"{service.url}/state", params={"pipeline": new}, timeout=30).status_code

        with ThreadPoolExecutor(6) as threads:
            assert set(threads.map(state, range(6))) == {200}
