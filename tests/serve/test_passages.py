"""Links to passages: what they show, of whom, and that a link that leads nowhere tells nothing."""

from __future__ import annotations

import html
import io
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fpdf import FPDF
from PIL import Image, ImageChops

from deployments.server.access.links import Links, Passage
from deployments.server.shapes import answer_json, answer_of
from tests.serve.conftest import QUESTION, Index, Service, serving
from tests.support.chat_server import Say, StubChat, claims
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Bucket, Server, new_bucket, sqlite_url

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BOILER = """# Boiler

## Start

Before all else, close the outlet valve of the boiler.

## Lighting & heat

The boiler is lit with the blue lever and a match.

## Stop

At the end, open the drain of the boiler again.
"""
EVIL = (
    """The hostile note </p><script>alert("text")</script><img src=x onerror=alert(1)> has a <mark>quote</mark>, """
    "\x1b[2J \u009b2J \u202e."
)
FIRST, SECOND = "In dusty places the filter of the pump has to be", "replaced after 250 hours of operation already."
BULLETIN = f"{FIRST} {SECOND}"
LEFT = 30.0
"""Millimetres from the left edge."""


def bulletin(y: float = 60.0) -> bytes:
    """A page whose quote is written on two lines: ``y`` millimetres below the edge, and 10 mm below that."""
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=12)
    document.set_xy(LEFT, y)
    document.cell(0, 10, f"{FIRST} ", new_x="LEFT", new_y="NEXT")
    document.cell(0, 10, f"{SECOND} Note it.")
    return bytes(document.output())


@dataclass(frozen=True)
class Library:
    """A service over objects of two tenants, and what signs its links."""

    service: Service
    links: Links
    name: str
    make: Callable[..., str]
    bucket: Bucket

    def search(self, question: str, tenant: str, top_k: int = 1) -> list[dict[str, Any]]:
        with self.service.client() as client:
            body = {"question": question, "tenant": tenant, "top_k": top_k}
            return list(client.post("/search", json=body).raise_for_status().json()["hits"])

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.service.client() as client:
            return client.get(path, **options)

    def link(self, hit: dict[str, Any], quote: str = "", tenant: str = "acme", pipeline: str = "") -> str:
        begin = hit["text"].index(quote) if quote else 0
        span = (begin, begin + len(quote)) if quote else None
        return self.links.path(Passage(pipeline or self.name, hit["chunk_id"], tenant, span))


@pytest.fixture(scope="module")
def library(
    prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    from flows.sync import sync

    bucket = new_bucket(s3_server)
    own = f"p{uuid.uuid4().hex[:8]}"
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, sqlite_url(tmp_path_factory.mktemp("ledger")))
    name = make(name=own, alias=own, tenants=True, min_score=-1.0, cache_seconds=0.0)
    bucket.put("acme/<b>boiler.md", BOILER)
    bucket.put("acme/evil.txt", EVIL)
    bucket.put("acme/bulletin.pdf", bulletin())
    bucket.put("globex/vault.txt", "The vault of globex opens with the word rosebud.")
    sync(name)
    with serving(name) as service:
        yield Library(service, service.app._app.state.links, name, make, bucket)


def test_a_link_shows_the_passage_among_its_neighbours(library: Library) -> None:
    (hit,) = library.search("How is the boiler lit?", "acme")
    assert hit["url"] == library.service.url + library.link(hit)
    shown = library.get(library.link(hit, "is lit with the"))
    assert shown.status_code == 200
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    text = shown.text
    assert '<mark id="quote">is lit with the</mark>' in text
    assert text.index("close the outlet valve") < text.index("is lit with") < text.index("open the drain")
    for said in ("boiler.md", "version <code>", "Boiler › Lighting &amp; heat</h2>"):
        assert said in text
    assert "page.png" not in text


def test_what_a_document_says_is_text_and_nothing_else(library: Library) -> None:
    (hit,) = library.search("What has the hostile note?", "acme")
    quote = '<script>alert("text")</script>'
    shown = library.get(library.link(hit, quote))
    assert html.unescape(shown.text.partition('<mark id="quote">')[2].partition("</mark>")[0]) == quote
    for tag in ("<script", "<img", "<mark>", "\x1b", "\u009b", "\u202e"):
        assert tag not in shown.text, tag
    (hit,) = library.search("How is the boiler lit?", "acme")
    named = library.get(library.link(hit)).text
    assert "<b>" not in named
    assert "<script" not in named
    assert shown.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    )
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert shown.headers["cache-control"] == "no-store"


def told_nothing(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_passage")
    assert answer.json()["error"]["message"].startswith("This link has expired")


def expired(library: Library, hit: dict[str, Any]) -> str:
    where = {"pipeline": library.name, "tenant": "acme", "at": "", "until": str(int(time.time()) - 1)}
    query = httpx.QueryParams({**where, "sig": library.links._sign(hit["chunk_id"], where)})
    return f"/passages/{hit['chunk_id']}?{query}"


def test_links_that_lead_nowhere_are_all_told_the_same(library: Library) -> None:
    """A changed one, an expired one, one of another tenant, of no tenant, of no pipeline, of no chunk, and none."""
    (own,), (foreign,) = library.search("How is the boiler lit?", "acme"), library.search("vault", "globex")
    assert library.get(library.link(foreign, tenant="globex")).status_code == 200
    links = [
        library.link(own).replace("tenant=acme", "tenant=globex"),
        library.link(own).replace(own["chunk_id"], foreign["chunk_id"]),
        library.link(own)[:-1] + ("0" if library.link(own)[-1] != "0" else "1"),
        f"/passages/{own['chunk_id']}",
        f"/passages/{own['chunk_id']}?until=x&at=%00&sig=%F0%9F%98%80",
        expired(library, own),
        library.link(foreign),
        library.link(own, tenant=""),
        library.link(own, pipeline="nobody"),
        library.links.path(Passage(library.name, "0" * 32, "acme")),
        library.links.path(Passage(library.name, '" or id != "', "acme")),
    ]
    for link in links:
        told_nothing(library.get(link))
        path, _, query = link.partition("?")
        told_nothing(library.get(f"{path}/page.png?{query}"))
    pages = {library.get(link, headers=HTML).text for link in links}
    assert len(pages) == 1
    assert "This link has expired" in pages.pop()
    assert library.get(links[0], headers=HTML).status_code == 404


def test_what_is_deleted_is_shown_no_more(library: Library) -> None:
    from flows.sync import sync

    library.bucket.put("acme/leaflet.txt", "The leaflet says that umbrellas are kept in the cellar.")
    sync(library.name)
    (hit,) = library.search("Where are umbrellas?", "acme")
    assert "umbrellas" in library.get(library.link(hit)).text
    library.bucket.delete("acme/leaflet.txt")
    sync(library.name, allow_deletions=True)
    told_nothing(library.get(library.link(hit)))


def test_an_older_version_says_that_it_is_one(library: Library) -> None:
    from flows.sync import sync

    library.bucket.put("acme/price.pdf", bulletin())
    sync(library.name)
    (hit,) = [one for one in library.search("dusty places", "acme", 4) if one["key"] == "acme/price.pdf"]
    assert "newer version" not in library.get(library.link(hit)).text
    library.bucket.put("acme/price.pdf", b"%PDF-1.4 damaged")
    sync(library.name)
    assert "A newer version of this object" in library.get(library.link(hit)).text
    library.bucket.delete("acme/price.pdf")
    sync(library.name, allow_deletions=True)


def picture(library: Library, link: str) -> Image.Image:
    path, _, query = link.partition("?")
    answer = library.get(f"{path}/page.png?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return Image.open(io.BytesIO(answer.content)).convert("RGB")


def test_a_pdfs_page_has_the_mark_on_the_quote(library: Library) -> None:
    """The quote goes over a line end. The page differs from the bare one where its two lines are, and nowhere else."""
    (hit,) = library.search("dusty places", "acme")
    quote = f"filter of the pump has to be {SECOND}"
    shown = library.get(library.link(hit, quote)).text
    assert f"/page.png?{urlsplit(library.link(hit, quote)).query.replace('&', '&amp;')}" in shown
    assert "page 1</a>" in shown
    bare, marked = picture(library, library.link(hit)), picture(library, library.link(hit, quote))
    changed = ImageChops.difference(bare, marked).convert("L").point(lambda value: 255 * (value > 0))
    scale = bare.width / 210  # pixels of a millimetre on A4
    font = FPDF()
    font.set_font("Helvetica", size=12)
    left = LEFT + font.c_margin
    before = font.get_string_width("In dusty places the ")
    lines = [
        (60, left + before, left + font.get_string_width(FIRST)),
        (70, left, left + font.get_string_width(SECOND)),
    ]
    for top, begin, end in lines:
        band = changed.crop((0, round(top * scale), bare.width, round((top + 10) * scale))).getbbox()
        assert band, "nothing is marked on this line"
        assert abs(band[0] - begin * scale) < 6
        assert abs(band[2] - end * scale) < 12  # the space or the full stop at its end
    whole = changed.getbbox()
    assert whole
    assert 60 * scale < whole[1] < whole[3] < 80 * scale
    assert any(max(pixel) < 60 for pixel in marked.crop(whole).get_flattened_data()), "the words stay readable"


def test_without_a_picture_the_text_stands_alone(library: Library) -> None:
    def refused(link: str) -> None:
        path, _, query = link.partition("?")
        answer = library.get(f"{path}/page.png?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_picture"), answer.text
        assert library.get(link).status_code == 200

    (text,) = library.search("How is the boiler lit?", "acme")
    refused(library.link(text))
    (hit,) = library.search("dusty places", "acme")
    small = library.make(name=f"{library.name}-small", alias=library.name, tenants=True, source={"max_bytes": 100})
    refused(library.link(hit, pipeline=small))
    key = hit["key"]
    before = library.bucket.client.get_object(Bucket=library.bucket.name, Key=key)["Body"].read()
    library.bucket.put(key, bulletin(y=100.0))
    refused(library.link(hit))
    library.bucket.delete(key)
    refused(library.link(hit))
    library.bucket.put(key, before)


GROUNDED = claims(
    ("Only K7 is used.", [(1, "Use filter type K7 only")]),
    ("The filter is replaced every 400 hours.", [(1, "every 400 hours")]),
    ("It sings.", [(1, "it sings")]),
)


def marked(url: str) -> str:
    text = httpx.get(url, timeout=30).raise_for_status().text
    return html.unescape(text.partition('<mark id="quote">')[2].partition("</mark>")[0])


def test_every_answer_links_its_citations(service: Service, with_chat: str, chat: StubChat, index: Index) -> None:
    chat.replies = [(200, Say(GROUNDED))]
    body = {"question": QUESTION, "pipeline": with_chat}
    with service.client() as client:
        told = client.post("/ask", json=body).json()
        assert [marked(one["url"]) for one in told["citations"]] == ["Use filter type K7 only", "every 400 hours", ""]
        streamed = client.post("/ask", json={**body, "stream": True}).text
    for one in told["citations"]:
        assert streamed.count(one["url"]) == 2  # as it comes, and in the whole
    ai, messages = service.openai(), [{"role": "user", "content": QUESTION}]
    whole: Any = ai.chat.completions.create(model=with_chat, messages=messages)  # type: ignore[arg-type]
    assert [one["url"] for one in whole.citations] == [one["url"] for one in told["citations"]]
    url = told["citations"][0]["url"]
    assert {one.url_citation.url for one in whole.choices[0].message.annotations} == {url}
    (source,) = whole.sources
    assert source["source"]["url"] == source["source"]["embed_url"] == url
    assert source["metadata"][0]["source_url"] == url
    assert source["metadata"][0]["external"] is True
    assert not source["source"]["name"].startswith("http"), "a chat page would fetch an icon for it"
    listed: Any = ai.chat.completions.create(model=f"{with_chat}:sources", messages=messages)  # type: ignore[arg-type]
    assert f"]({url}): “Use filter type K7 only”" in listed.choices[0].message.content
    found = ai.vector_stores.search(index.name, query=QUESTION).data[0]
    assert "every 400 hours" in httpx.get(str((found.attributes or {})["url"])).text


def test_links_begin_with_the_public_address(index: Index) -> None:
    with serving(index.name, public_url="https://ask.example/docs/") as service, service.client() as client:
        (hit, *_) = client.post("/search", json={"question": QUESTION}).json()["hits"]
        assert hit["url"].startswith("https://ask.example/docs/passages/")
        assert client.get(hit["url"].removeprefix("https://ask.example/docs")).status_code == 200


def test_services_that_share_a_key_open_each_others_links(index: Index) -> None:
    with serving(index.name, own_key="shared") as one, one.client() as client:
        (hit, *_) = client.post("/search", json={"question": QUESTION}).json()["hits"]
    with serving(index.name, own_key="shared") as other, other.client() as client:
        assert client.get(hit["url"].removeprefix(one.url)).status_code == 200


def test_the_commands_json_has_no_links(service: Service) -> None:
    with service.client() as client:
        told = client.post("/ask", json={"question": QUESTION}).json()
    printed = answer_json(answer_of(QUESTION, told))
    assert told["citations"][0]["url"]
    for shown, one in zip(printed["citations"], told["citations"], strict=True):
        assert shown == {key: value for key, value in one.items() if key != "url"} | {"span": tuple(one["span"])}


def test_pages_of_named_origins_may_show_a_passage_in_a_frame(index: Index) -> None:
    chats = ("https://chat.example", "http://127.0.0.1:3000")
    with serving(index.name, frame_origins=chats) as service, service.client() as client:
        url = client.post("/search", json={"question": QUESTION}).json()["hits"][0]["url"]
        policies = [client.get(path).headers["content-security-policy"] for path in (url, "/")]
    assert policies[0].endswith("frame-ancestors 'self' https://chat.example http://127.0.0.1:3000")
    assert policies[1].endswith("frame-ancestors 'none'")  # passages alone: the page can be clicked
