"""The reports of runs, read back by a Markdown parser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from blocks.settings import Settings
from tasks.answers.report import answer_markdown
from tasks.indexing.report import quarantine_table, sync_markdown
from tasks.models import Answer, Citation, Claim, Hit, SyncReport
from tasks.text.markdown import cell, table

KEYS = [
    "plain.md",
    "with | pipe.md",
    "|",
    "two\nlines.md",
    "carriage\r\nreturn.md",
    "back\\slash.md",
    "back\\| both.md",
    "ends in \\",
    "größe/日本語 #1%.md",
]
SHOWN = {key: " ".join(key.split()) for key in KEYS}


def tables(markdown: str) -> list[list[list[str]]]:
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown))
    return [
        [["".join(text.content for text in one.walk() if text.type in ("text", "text_special", "softbreak"))
          for one in row.walk() if one.type in ("th", "td")] for row in found.walk() if row.type == "tr"]
        for found in tree.walk() if found.type == "table"
    ]  # fmt: skip


def squeezed(rows: list[list[str]]) -> list[list[str]]:
    return [[" ".join(one.split()) for one in row] for row in rows]


def quarantined(key: str, reason: str = "it is empty", indexed_etag: str | None = None) -> dict[str, Any]:
    return {"key": key, "reason": reason, "attempts": 2, "indexed_etag": indexed_etag}


@pytest.mark.parametrize("key", KEYS)
def test_nothing_in_a_cell_can_break_its_table(key: str) -> None:
    (found,) = tables(table(["key", "n"], [[key, 1], ["after", 2]]))
    assert squeezed(found) == [["key", "n"], [SHOWN[key], "1"], ["after", "2"]]


@pytest.mark.parametrize("key", KEYS)
def test_quarantine_shows_key_and_reason(key: str) -> None:
    rows = [quarantined(key, f"reason of {key}"), quarantined("b.md", indexed_etag="e0")]
    (found,) = tables(quarantine_table(rows))
    assert squeezed(found)[1:] == [
        [SHOWN[key], f"reason of {SHOWN[key]}", "2", "no"],
        ["b.md", "it is empty", "2", "yes"],
    ]


def test_a_sync_is_reported_with_what_changed_and_how_fast() -> None:
    report = SyncReport(
        "docs_g0001", new=1200, changed=3, deleted=1, unchanged=400, quarantined=2, moved_on=5, chunks_embedded=3000,
        chunks_reused=1000, chunks_deleted=7, seconds=10.0,
    )  # fmt: skip
    text = sync_markdown(
        report, {"chunks": 4321}, [("written", "x|y.md", 3)], [quarantined("a|b.md")], Settings(top_k=7)
    )
    objects, chunks, changes, in_quarantine, settings = tables(text)
    assert changes[-1][1:] == ["written", "3"]
    assert " in all, including quarantined objects." in text
    assert ["new", "1,200"] in objects
    assert ["deleted", "1"] in objects
    assert ["in quarantine now", "2"] in objects
    assert ["changed while being read (next sync)", "5"] in objects
    assert ["vector reused", "1,000 (25%)"] in chunks
    assert ["in the generation now", "4,321"] in chunks
    assert in_quarantine[1][0] == "a|b.md"
    assert ["top_k", "7"] in settings
    assert {row[0] for row in settings[1:]} == set(Settings.model_fields)
    assert text.startswith("# docs_g0001: +1200 ~3 -1\n")
    assert "10.0 s for 1,204 objects, 300 chunks embedded a second." in text
    assert "… and 1 more." in text


def test_a_sync_that_did_nothing_is_reported_without_quarantine_and_speed() -> None:
    text = sync_markdown(SyncReport("docs_g0001", unchanged=4), {"chunks": 9}, [], [], Settings())
    assert "Quarantine" not in text
    assert "a second" not in text
    assert "0.0 s for 0 objects." in text


@pytest.mark.parametrize("key", KEYS)
def test_an_answer_is_reported_with_its_citations_as_links(key: str) -> None:
    citation = Citation(1, key, "Deletes | first", 4, "A quote | with\na pipe.", "c1")
    false = replace(citation, quote="Made up.", verified=False)
    answer = Answer(
        "Why?", "Because [1].", "extractive", (citation, false), "docs_g0001", {"total": 0.5}, {"prompt": 12},
        ("note",), claims=(Claim("Because.", (1,), True), Claim("So.")),
        passages=(Hit("c1", key, 0.75, "x" * 300, "Guide", 4),),
    )  # fmt: skip
    text = answer_markdown(answer, {key: "http://s3/documents/x"})
    citations, claims, found, seconds, tokens = tables(text)
    assert squeezed(citations)[1:] == [
        ["1", "yes", SHOWN[key], "Deletes | first", "4", "A quote | with a pipe."],
        ["1", "NO: not found there, or too short", SHOWN[key], "Deletes | first", "4", "Made up."],
    ]
    assert squeezed(claims)[1:] == [["yes", "1", "Because."], ["NO", "", "So."]]
    assert squeezed(found)[1] == ["1", "0.750", SHOWN[key], "Guide", "x" * 160 + "…"]
    assert "](http://s3/documents/x)" in text
    assert seconds[1] == ["total", "0.500"]
    assert tokens[1] == ["prompt", "12"]
    for words in ("# Why?", "Because \\[1\\].", "mode: extractive", "docs_g0001", "> note"):
        assert words in text


HOSTILE = (
    "![](https://elsewhere.example/x.png) <img src=https://elsewhere.example/y> [click](https://elsewhere.example) `"
)


def test_what_documents_and_models_say_is_no_markdown_of_the_report() -> None:
    """Whoever opens it fetches nothing and is led nowhere by them; our own links remain."""
    citation = Citation(1, f"{HOSTILE}.md", HOSTILE, None, HOSTILE, "c1")
    answer = Answer(
        HOSTILE, HOSTILE, "generated", (citation,), "docs_g0001", {"total": 0.5}, {}, (HOSTILE,),
        claims=(Claim(HOSTILE, (1,), True),), passages=(Hit("c1", HOSTILE, 0.75, HOSTILE, HOSTILE, None),),
    )  # fmt: skip
    text = answer_markdown(answer, {citation.key: "http://s3/documents/x"})
    tokens = [
        one for top in MarkdownIt("commonmark").enable("table").parse(text) for one in (top, *(top.children or ()))
    ]
    assert [one.attrs["href"] for one in tokens if one.type == "link_open"] == ["http://s3/documents/x"]
    assert not [one for one in tokens if one.type in ("image", "html_inline", "html_block", "code_inline", "fence")]


def test_an_answer_that_abstains_has_no_tables_of_citations_and_tokens() -> None:
    answer = Answer("Why?", "Not in here.", "abstained", (), "docs_g0001", {"total": 0.5})
    assert len(tables(answer_markdown(answer, {}))) == 1


def test_a_cell_is_one_line() -> None:
    assert "\n" not in cell("a\nb\r\nc\rd")
    assert "\r" not in cell("a\nb\r\nc\rd")
