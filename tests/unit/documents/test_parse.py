"""Texts of every kind become elements under their headings; what cannot be read gets a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.documents.parse import parse
from tasks.errors import PermanentError
from tasks.models import Element

Read = Callable[..., list[Element]]
MARKDOWN = """---
title: Not text
tags: [a, b]
---
Words before any heading.

# Guide { #guide }

First paragraph, with **bold** and `code <x>` and a [link](https://example.org).

## Install {: .big }

- one item
- two items

1. first step
2. second step

| name | size |
|------|------|
| milvus | big |
| lite | small |

Setext one
==========

Under setext one.

Setext two
----------

> A quote.

```python
# not a heading
def f():
    return 1
```

### Deep

Deep text & more.
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(key: str, content: str | bytes, content_type: str = "") -> list[Element]:
        blob = tmp_path / "blob"
        blob.write_bytes(content.encode() if isinstance(content, str) else content)
        return parse(blob, key, content_type)

    return read


def pairs(elements: list[Element]) -> list[tuple[tuple[str, ...], str]]:
    assert all(element.page is None for element in elements)
    return [(element.headings, element.text) for element in elements]


@pytest.mark.parametrize("key", ["a.md", "a.markdown", "a.mdx"])
def test_markdown(read: Read, key: str) -> None:
    assert pairs(read(key, MARKDOWN)) == [
        ((), "Words before any heading."),
        (("Guide",), "First paragraph, with bold and code <x> and a link."),
        (("Guide", "Install"), "one item"),
        (("Guide", "Install"), "two items"),
        (("Guide", "Install"), "first step"),
        (("Guide", "Install"), "second step"),
        (("Guide", "Install"), "name: milvus; size: big\nname: lite; size: small"),
        (("Setext one",), "Under setext one."),
        (("Setext one", "Setext two"), "A quote."),
        (("Setext one", "Setext two"), "# not a heading\ndef f():\n    return 1"),
        (("Setext one", "Setext two", "Deep"), "Deep text & more."),
    ]


@pytest.mark.parametrize("end", ["---", "..."])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_front_matter_is_left_out(read: Read, end: str, newline: str) -> None:
    text = f"---\ntitle: Hidden\n# a comment\n{end}\n# Head\n\nText.\n".replace("\n", newline)
    assert pairs(read("a.md", text)) == [(("Head",), "Text.")]
    assert pairs(read("a.md", b"\xef\xbb\xbf" + text.encode())) == [(("Head",), "Text.")]


@pytest.mark.parametrize("words", ["This paragraph stays.", "Note: this paragraph stays."])
def test_text_between_two_rules_is_not_front_matter(read: Read, words: str) -> None:
    text = f"---\n\n# First\n\n{words}\n\n---\n\nSecond paragraph.\n"
    assert pairs(read("a.md", text)) == [(("First",), words), (("First",), "Second paragraph.")]


def test_front_matter_ends_at_a_line_of_its_own(read: Read) -> None:
    text = "---\n# about\ntitle: Hidden --- it ---\nlist:\n  - a\n\nz: 1\n---\nShown words.\n\n---\n\nMore words.\n"
    assert [text for _, text in pairs(read("a.md", text))] == ["Shown words.", "More words."]


def test_front_matter_with_nothing_after_it_is_a_file_without_text(read: Read) -> None:
    with pytest.raises(PermanentError, match="the md file holds no text"):
        read("a.md", "---\ntitle: Only this\n---\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Only\n", [((), "Only")]),
        ("# A\n\n# B\n\nText.\n", [((), "A"), (("B",), "Text.")]),
        ("# A\n\n## B\n\n## C\n\nText.\n", [(("A",), "B"), (("A", "C"), "Text.")]),
        ("# A\n\n## B\n", [(("A",), "B")]),
        ("# A\n\n### Deep\n\nText.\n\n## B\n", [(("A", "Deep"), "Text."), (("A",), "B")]),
        ("### Deep\n\nText.\n\n# A\n\nMore.\n", [(("Deep",), "Text."), (("A",), "More.")]),
        ("# A { #a }\n", [((), "A")]),
    ],
)
def test_a_heading_with_nothing_under_it_can_be_found(
    read: Read, text: str, expected: list[tuple[tuple[str, ...], str]]
) -> None:
    assert pairs(read("a.md", text)) == expected


def test_a_heading_of_two_hundred_words_is_text(read: Read) -> None:
    text = " ".join(["word"] * 200)
    assert pairs(read("a.md", f"# {text}\n\nAfter it.\n")) == [((), text), ((), "After it.")]


@pytest.mark.parametrize("key", ["a.html", "a.htm"])
def test_html(read: Read, key: str) -> None:
    page = """<!DOCTYPE html><html><head><title>Not text</title><style>p {}</style></head><body>
      <h1><a href="#t">Top</a> level</h1><p>Para one,<br>two lines &amp; more.</p>
      <h2>Sub</h2><div>Bare text <span>in spans</span>.</div>
      <ul><li>first item</li><li>second item</li></ul>
      <table><tr><th>name</th><th>size</th></tr><tr><td>lite</td><td>small</td></tr></table>
      <pre>code  x
  indented</pre><script>alert(1)</script>
      <h1>Second</h1>Loose text.</body></html>"""
    assert pairs(read(key, page)) == [
        (("Top level",), "Para one, two lines & more."),
        (("Top level", "Sub"), "Bare text in spans."),
        (("Top level", "Sub"), "first item"),
        (("Top level", "Sub"), "second item"),
        (("Top level", "Sub"), "name: lite; size: small"),
        (("Top level", "Sub"), "code  x\n  indented"),
        (("Second",), "Loose text."),
    ]


def test_xhtml_with_a_declaration_of_its_encoding(read: Read) -> None:
    page = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html><html><body><h1>Kopf</h1><p>Größe.</p></body></html>'
    assert pairs(read("a.xhtml", page)) == [(("Kopf",), "Größe.")]


def test_html_without_any_markup(read: Read) -> None:
    assert pairs(read("a.html", "Just words, nothing else.")) == [((), "Just words, nothing else.")]


@pytest.mark.parametrize("tag", ["section", "article", "div", "blockquote", "dl", "details", "figure", "fieldset"])
def test_what_stands_in_a_block_of_html_is_read(read: Read, tag: str) -> None:
    page = f"<h1>Head</h1><p>Lead words.</p><{tag}><p>Inner words.</p></{tag}><p>Last words.</p>"
    assert [text for _, text in pairs(read("a.html", page))] == ["Lead words.", "Inner words.", "Last words."]


def test_what_can_be_folded_in_markdown_is_read(read: Read) -> None:
    text = "# Head\n\n<details>\n<summary>How to repair</summary>\n\nRun the audit.\n\n</details>\n\nLast words.\n"
    found = " ".join(text for _, text in pairs(read("a.md", text)))
    assert found == "How to repair Run the audit. Last words."


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<p>Lead.</p><figure><img src='x'><figcaption>The caption.</figcaption></figure>", "The caption."),
        ("<table><caption>The caption.</caption><tr><th>a</th></tr><tr><td>1</td></tr></table>", "The caption."),
    ],
)
def test_captions_are_read(read: Read, page: str, words: str) -> None:
    assert words in " ".join(text for _, text in pairs(read("a.html", page)))


def test_text(read: Read) -> None:
    text = """Overview

This is a paragraph that is wrapped over
several lines, as mail programs do, and as many
readme files are.

A second one. It has two sentences.

- bullet one
- bullet two

CHAPTER TWO

Its text.
"""
    assert pairs(read("a.txt", text)) == [
        (("Overview",), "This is a paragraph that is wrapped over several lines, as mail programs do, and as many "
         "readme files are."),
        (("Overview",), "A second one. It has two sentences."),
        (("Overview",), "bullet one"),
        (("Overview",), "bullet two"),
        (("CHAPTER TWO",), "Its text."),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["a.py", "a.yaml", "a.log", "a.sql", "LICENSE"])
def test_every_word_of_other_text_files_is_read(read: Read, key: str) -> None:
    text = "import os\n\n# comment\ndef main():\n    return os.getcwd()\n\nkey: value\nSELECT 1;\n"
    found = [" ".join([*headings, text]) for headings, text in pairs(read(key, text))]
    assert set(text.split()) <= set(" ".join(found).split())


def test_lines_of_json_are_text(read: Read) -> None:
    assert [text for _, text in pairs(read("a.jsonl", '{"a": 1}\n{"b": 2}\n'))] == ['{"a": 1}', '{"b": 2}']


@pytest.mark.parametrize(("key", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_rows_of_a_table(read: Read, key: str, separator: str) -> None:
    rows = [["name", "size", "note"], ["milvus", "big", '"quoted, with ""marks"""'], ["", "", ""], ["lite", "", "ünï"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    expected = [((), 'name: milvus; size: big; note: quoted, with "marks"'), ((), "name: lite; note: ünï")]
    assert pairs(read(key, text)) == expected
    assert pairs(read(key, b"\xef\xbb\xbf" + text.encode())) == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\u2028", "\x0c"])
def test_a_cell_of_two_lines_keeps_its_words_apart(read: Read, line_end: str) -> None:
    text = f'name,note\nlite,"first line{line_end}second line"\n'
    assert pairs(read("a.csv", text)) == [((), "name: lite; note: first line second line")]


def test_a_table_with_a_header_only(read: Read) -> None:
    assert pairs(read("a.csv", "name,size\n")) == [((), "name | size")]


def test_a_latin_1_table(read: Read) -> None:
    table = "name,city\nJosé,Málaga\nRené,Besançon\n".encode("latin-1")
    assert [text.split("city: ")[1] for _, text in pairs(read("a.csv", table))] == ["Málaga", "Besançon"]


def test_json(read: Read) -> None:
    (element,) = read("a.json", '{"a": [1, "zwei"], "ü": null, "nested": {"deep": true}}')
    for words in ('"zwei"', '"ü": null', '"deep": true'):
        assert words in element.text


def test_broken_json_is_refused_with_the_place(read: Read) -> None:
    with pytest.raises(PermanentError, match=r"not valid JSON \(Expecting value: line 1 column 7"):
        read("a.json", '{"a": ')


def test_json_that_is_nested_too_deeply_is_refused(read: Read) -> None:
    with pytest.raises(PermanentError, match="nested too deeply"):
        read("a.json", "[" * 100_000)


@pytest.mark.parametrize(("key", "text"), [("a.json", '{"a": "\\ud800 lone"}'), ("a.html", "<p>&#xD800; lone</p>")])
def test_half_a_character_does_not_reach_what_is_stored(read: Read, key: str, text: str) -> None:
    for element in read(key, text):
        element.text.encode()
        assert "lone" in element.text


def mail(body: bytes, charset: str = "utf-8", encoding: str = "8bit", subject: bytes = b"Why generations") -> bytes:
    return (
        b"From: a@example.org\nTo: b@example.org\nSubject: " + subject + b"\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=" + charset.encode() + b"\nContent-Transfer-Encoding: " + encoding.encode()
        + b"\n\n" + body
    )  # fmt: skip


def test_a_message_under_its_subject(read: Read) -> None:
    message = mail("First paragraph, größer.\n\nSecond paragraph.\n".encode())
    assert pairs(read("a.eml", message)) == [
        (("Why generations",), "First paragraph, größer."),
        (("Why generations",), "Second paragraph."),
    ]


@pytest.mark.parametrize(
    "message",
    [
        mail(b"Das Caf=E9 ist ge=F6ffnet.\n", "iso-8859-1", "quoted-printable", b"=?iso-8859-1?Q?Gr=FC=DFe?="),
        mail(b"RGFzIENhZsOpIGlzdCBnZcO2ZmZuZXQu\n", "utf-8", "base64", "Grüße".encode()),
        mail("Das Café ist geöffnet.\n".encode(), "utf-8", "8bit", "Grüße".encode()),
        mail("Das Café ist geöffnet.\n".encode("latin-1"), "iso-8859-1", "8bit", b"=?utf-8?B?R3LDvMOfZQ==?="),
    ],
    ids=["quoted-printable", "base64", "utf-8", "latin-1"],
)
def test_a_message_in_any_encoding(read: Read, message: bytes) -> None:
    assert pairs(read("a.eml", message)) == [(("Grüße",), "Das Café ist geöffnet.")]


def test_a_message_without_a_subject_and_one_without_a_body(read: Read) -> None:
    assert pairs(read("a.eml", "From: a@example.org\n\nOnly a body here.\n")) == [((), "Only a body here.")]
    assert pairs(read("a.eml", "From: a@example.org\nSubject: Only this\n\n")) == [((), "Only this")]


def test_a_message_that_begins_with_a_byte_order_mark(read: Read) -> None:
    assert pairs(read("a.eml", b"\xef\xbb\xbfSubject: Marked\n\nThe body.\n")) == [(("Marked",), "The body.")]


def test_a_message_in_html(read: Read) -> None:
    message = "Subject: News\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n<p>Words in HTML.</p>\n"
    assert pairs(read("a.eml", message)) == [(("News",), "Words in HTML.")]


@pytest.mark.parametrize("key", ["a.md", "a.html", "a.txt", "a.csv", "a.json", "a.eml"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \n\t\r\n "], ids=["empty", "mark", "white space"])
def test_an_empty_file_is_refused(read: Read, key: str, content: bytes) -> None:
    with pytest.raises(PermanentError, match="the file is empty"):
        read(key, content)


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("a.html", "<html><body><script>x()</script></body></html>", "the html file holds no text"),
        ("a.md", "<!-- only a comment -->", "the md file holds no text"),
        ("a.csv", ",,,\n,,,\n", "the csv file holds no text"),
        ("a.txt", b"\xff\xfe", "the text file holds no text"),
    ],
)
def test_a_file_without_text_is_refused(read: Read, key: str, content: str | bytes, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        read(key, content)


@pytest.mark.parametrize("key", ["a.txt", "a.md", "a.html", "a.csv", "a.json", "a.eml"])
def test_binary_under_the_name_of_a_text_is_refused(read: Read, key: str) -> None:
    with pytest.raises(PermanentError, match=r"binary|not UTF-8"):
        read(key, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)


def test_a_library_that_fails_is_quoted_in_one_line(read: Read) -> None:
    with pytest.raises(PermanentError) as caught:
        read("a.csv", 'a,b\n"' + "x" * 200_000 + '",2\n')
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the csv file cannot be read: ")


@pytest.mark.parametrize("key", ["a.md", "a.html", "a.txt"])
def test_reading_twice_gives_the_same(read: Read, key: str) -> None:
    assert read(key, MARKDOWN) == read(key, MARKDOWN)


def test_html_that_is_nested_too_deeply_is_refused_and_not_cut(read: Read) -> None:
    def nested(levels: int) -> bytes:
        return b"<p>Above all.</p>" + b"<div>" * levels + b"<p>At the bottom.</p>" + b"</div>" * levels

    assert [element.text for element in read("deep.html", nested(200))] == ["Above all.", "At the bottom."]
    with pytest.raises(PermanentError, match="255 levels"):
        read("deeper.html", nested(300))
