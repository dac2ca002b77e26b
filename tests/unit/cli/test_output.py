"""What the command prints: JSON by contract on stdout, words for people."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from deployments.cli import output
from deployments.cli.output_evaluation import evaluated_report
from deployments.server.shapes import answer_json, hits_json
from tasks.indexing.audit import Findings
from tasks.listeners import Silent, listener
from tasks.models import Answer, Citation, Claim, Hit, Swap, SyncReport
from tasks.retrieval.scope import Scope

HIT = Hit("c1", "größe [x]/a.md", 0.75, "Text of [bold]the[/bold] chunk.", "Guide", 3, "hash")
CITATION = Citation(1, "a.md", "Guide", None, "A quote.", "c1", version="etag-1", span=(3, 11))
ANSWER = Answer(
    "Why?", "Because [1].", "generated", (CITATION,), "docs_g0001", {"total": 0.5}, {"prompt": 12}, ("a note",),
    "run-1", (Claim("Because.", (1,), True),),
)  # fmt: skip


def test_sync_has_the_keys_of_its_contract() -> None:
    report = SyncReport("docs_g0001", 1, 2, 3, 4, 5, 6, 7, 8, 9, 1.5, "run-1")
    assert output.sync_json(report) == {
        "collection": "docs_g0001", "new": 1, "changed": 2, "deleted": 3, "unchanged": 4, "quarantined": 5,
        "chunks_embedded": 7, "chunks_reused": 8, "chunks_deleted": 9, "seconds": 1.5, "flow_run_id": "run-1",
    }  # fmt: skip


def test_a_sync_says_what_it_left_out() -> None:
    report = SyncReport("docs_g0001", left_out=1, left_out_named=("'k…': its key has 1,273 bytes",))
    assert output.sync_json(report)["left_out"] == 1
    assert output.sync_json(report)["left_out_named"] == ("'k…': its key has 1,273 bytes",)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_link_with_the_password_goes_to_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file, a pipe and a CI's page keep what is printed."""
    written = StringIO()
    monkeypatch.setattr(output, "out", Console(file=written, force_terminal=terminal, soft_wrap=True))
    output.ui_link("http://127.0.0.1:4200/lockstep/open#geheim")
    assert ("geheim" in written.getvalue()) is terminal
    assert "127.0.0.1" in written.getvalue()
    assert terminal or "lockstep status" in written.getvalue()


def test_search_has_the_keys_of_its_contract() -> None:
    assert hits_json("docs_g0001", [HIT], {"embed": 0.1, "search": 0.2}) == {
        "collection": "docs_g0001",
        "hits": [
            {"key": "größe [x]/a.md", "chunk_id": "c1", "score": 0.75, "text": "Text of [bold]the[/bold] chunk.",
             "heading": "Guide", "page": 3}
        ],
        "seconds": {"embed": 0.1, "search": 0.2},
    }  # fmt: skip
    assert hits_json("docs_g0001", [], {})["hits"] == []


def test_ask_has_the_keys_of_its_contract() -> None:
    assert json.loads(json.dumps(answer_json(ANSWER))) == {
        "answer": "Because [1].",
        "mode": "generated",
        "citations": [
            {"n": 1, "key": "a.md", "heading": "Guide", "page": None, "quote": "A quote.", "verified": True,
             "version": "etag-1", "span": [3, 11], "chunk_id": "c1"}
        ],
        "claims": [{"text": "Because.", "citations": [1], "verified": True}],
        "collection": "docs_g0001",
        "cached": False,
        "flow_run_id": "run-1",
        "notes": ["a note"],
        "seconds": {"total": 0.5},
        "tokens": {"prompt": 12},
    }  # fmt: skip


def test_json_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json({"key": "größe\n\u2028[bold]"})
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.endswith("\n")
    assert printed.out.count("\n") == 1
    assert json.loads(printed.out) == {"key": "größe\n\u2028[bold]"}
    assert "größe" in printed.out


def test_words_for_people_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("[red]not markup[/red] C:\\temp\\ " + "x" * 300)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "[red]not markup[/red] C:\\temp\\ " + "x" * 300 + "\n"


@pytest.mark.parametrize(
    ("key", "heading", "page", "expected"),
    [
        ("a.md", "", None, "a.md"),
        ("a.md", "Guide › Install", None, "a.md › Guide › Install"),
        ("a.pdf", "", 4, "a.pdf › page 4"),
        ("a.pptx", "Title", 1, "a.pptx › Title › page 1"),
    ],
)
def test_where_something_stands(key: str, heading: str, page: int | None, expected: str) -> None:
    assert output.place(Citation(1, key, heading, page, "quote", "c1")) == expected


def test_an_answer_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer_text(ANSWER)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["Because [1].", "  [1] a.md › Guide", "  mode: generated · docs_g0001 · 0.50 s"]
    assert "a note" in printed.err


def test_loading_the_model_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """It is most of the first answer's time, and none of the next one's."""
    output.answer_text(replace(ANSWER, seconds={"load": 11.9, "embed": 0.1, "search": 0.3, "total": 12.4}))
    assert capsys.readouterr().out.splitlines()[-1].endswith("· 0.50 s (loading: 11.9 s more)")
    output.answer_text(replace(ANSWER, seconds={"load": 0.01, "total": 0.5}))
    assert capsys.readouterr().out.splitlines()[-1].endswith("· 0.49 s")


def test_an_answer_that_was_streamed_is_not_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer_text(ANSWER, streamed="Because [1]. ")
    assert capsys.readouterr().out.splitlines()[0] == "  [1] a.md › Guide"
    output.answer_text(ANSWER, streamed="Because")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "Because [1]."
    assert "not the complete answer" in printed.err


def test_a_place_is_listed_once_and_a_quote_that_is_not_there_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    false = replace(CITATION, quote="Made\nup [x].", verified=False, span=None)
    twice = (CITATION, replace(CITATION, quote="Another."), false)
    output.answer_text(replace(ANSWER, citations=twice, cached=True))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  [1] a.md › Guide",
        "  [1] a.md › Guide (no proof: 'Made\\nup [x].')",
        "  mode: generated · docs_g0001 · 0.50 s · cached",
    ]


def test_hits_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    long = Hit("c2", "b.md", 0.5, "word\n\n" * 200, "", None)
    output.hits_table("docs_g0001", [HIT, long])
    first, text, second, shortened = capsys.readouterr().out.splitlines()
    assert first == "1. 0.750  größe [x]/a.md › Guide › page 3"
    assert text == "   Text of [bold]the[/bold] chunk."
    assert second == "2. 0.500  b.md"
    assert shortened.endswith("…")
    assert len(shortened) < 320


def test_an_audit_for_machines_names_what_was_left_out_only_where_something_was() -> None:
    whole = output.audit_json(Findings("docs_g0001"))
    assert not {"left_out", "left_out_named"} & whole.keys()
    found = output.audit_json(Findings("docs_g0001", left_out=2, left_out_named=["a long key"]))
    assert (found["left_out"], found["left_out_named"]) == (2, ["a long key"])
    assert found.keys() - whole.keys() == {"left_out", "left_out_named"}


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    output.hits_table("docs_g0001", [])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "docs_g0001 has no chunks." in printed.err
    assert "lockstep sync" in printed.err


def test_nothing_found_through_a_filter_is_the_filters_doing(capsys: pytest.CaptureFixture[str]) -> None:
    output.hits_table("docs_g0001", [], Scope("prefix=guides/", "acme"))
    assert "docs_g0001 has no chunks for the tenant acme and the filter prefix=guides/" in capsys.readouterr().err


def test_a_sync_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    output.sync_report(SyncReport("docs_g0001", new=1234, moved_on=2, chunks_reused=5, seconds=1.25))
    printed = capsys.readouterr()
    assert "docs_g0001" in printed.out
    assert "1,234" in printed.out
    assert "2 objects changed while they were being read" in printed.err


@pytest.mark.parametrize("planned", [0, 5])
def test_a_progress_bar_listens_while_it_is_shown(capsys: pytest.CaptureFixture[str], planned: int) -> None:
    with output.progress_bar(shown=True):
        bar = listener.get()
        assert isinstance(bar, output.Bar)
        bar.listed(5)
        bar.planned(planned)
        bar.advanced(planned)
    assert isinstance(listener.get(), Silent)
    assert capsys.readouterr().out == ""


def test_no_bar_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar(shown=False):
        listener.get().listed(5)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


HOSTILE = "What does arr[/path] mean, [bold]boldly?"


def test_brackets_of_questions_and_keys_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"name": "objects that differ", "value": 1, "bound": "≤ 0", "passed": False, "detail": HOSTILE}
    output.swap_report(Swap("docs_g0002", "docs_g0001", "live", True, gates=(gate,)))
    missed = SimpleNamespace(question=HOSTILE, relevant=("[/a].md",), rank=None)
    it = SimpleNamespace(
        outcomes=[missed], label="docs_g0001", measures={"mrr": 0.0}, latency={}, abstention={}, answerable=[missed]
    )
    evaluated_report(cast(Any, SimpleNamespace(evaluation=it, baseline=None, differences={}, left_out=0)))
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count(HOSTILE) == 2
    assert "[/a].md" in shown
