"""What reaches a terminal: no text of a document, a question, a key, a model or a server commands it."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployments.cli import main, output, output_evaluation
from deployments.cli.ask import printed
from deployments.local.stack import PartStatus
from tasks.errors import PartError
from tasks.indexing.audit import Findings
from tasks.listeners import reader
from tasks.models import Answer, Checked, Citation, Claim, Hit, Swap, SyncReport

SAID = (
    "[red]red[/red] [link=https://elsewhere.example]here[/link] [bold] :warning: \x1b]52;c;eA==\x1b\\ \x1b]0;title\x07 "
    "\x1b[2K\x1b[1A\x1b[8m \x9b31m \x9d8;;x\x9c \x1bPq \u202egnp.exe \u2066x\u2069 \x08\x7f\r\x0b\x0c\x85\u2028 end\\"
)
WORDS = "[red]red[/red] [link=https://elsewhere.example]here[/link] [bold] :warning: ]52;c;eA==\\ ]0;title"
KEY = f"{SAID}\nlockstep: all is well"
HIT = Hit("c1", KEY, 0.75, SAID, SAID, 3, "hash", outdated=True)
CITATION = Citation(1, KEY, SAID, None, SAID, "c1", verified=False)
ANSWER = Answer(
    SAID,
    f"{SAID}\nsecond line",
    "generated",
    (CITATION,),
    "docs_g0001",
    {"total": 0.5},
    {},
    (SAID,),
    "run-1",
    (Claim(SAID, (1,), True),),
)
GATE = {"name": "objects that differ", "value": 1, "bound": "≤ 0", "passed": False, "detail": SAID}
FOUND = Findings("docs_g0001", fingerprint=SAID)
FOUND.add("missing", KEY, SAID)
GENERATION = {
    "collection": "docs_g0001",
    "state": "live",
    "vector_bytes": 1,
    "objects": 1,
    "chunks": 1,
    "created": "2026",
    "promoted": None,
    "gates": [GATE],
    "quality": {},
    "forced": {"who": SAID, "why": SAID},
    "differs": [SAID],
}
QUARANTINED = {"key": KEY, "reason": SAID, "attempts": 1, "since": "2026", "older_version_answers": True}
SERVICE_KEY = {
    "id": "0123abcd", "name": SAID, "tenant": SAID, "pipelines": [SAID], "rights": ["ask"], "used_at": None,
    "expires_at": None, "revoked_at": None,
}  # fmt: skip
AUTOMATION = {"name": SAID, "state": "current", "enabled": True, "actions": [SAID]}
MISSED = SimpleNamespace(question=SAID, relevant=(KEY,), rank=None)
EVALUATED = SimpleNamespace(
    evaluation=SimpleNamespace(
        outcomes=[MISSED], label=SAID, measures={"mrr": 0.0}, latency={}, abstention={}, answerable=[MISSED]
    ),
    baseline=None,
    differences={},
    left_out=1,
)
SYNCED = SyncReport("docs_g0001", moved_on=1)
SWAP = Swap("docs_g0002", "docs_g0001", "ready", False, gates=(GATE,))
CANARY = {"collection": "docs_g0002", "share": 10, "live": "docs_g0001", "step": 1, "steps": [10], "until": 0}


def streams() -> None:
    with printed(True):
        read = reader.get()
        assert read
        for one in SAID:  # a sequence that comes in two pieces is one all the same
            read(Checked(one))


def fails(error: Exception) -> None:
    def run() -> None:
        raise error

    with pytest.raises(SystemExit):
        main.main_with(run)


def shows_a_bar() -> None:
    with output.progress_bar(shown=True):
        pass


PRINTED: dict[str, Callable[[], Any]] = {
    "say": lambda: output.say(SAID),
    "as_json": lambda: output.as_json({SAID: KEY}),
    "write": lambda: output.write(SAID),
    "sync_report": lambda: output.sync_report(SYNCED),
    "hits_table": lambda: output.hits_table("docs_g0001", [HIT]),
    "answer_text": lambda: output.answer_text(ANSWER, streamed="something else"),
    "parts_table": lambda: output.parts_table([PartStatus("milvus", "down", SAID, detail=SAID)]),
    "ui_link": lambda: output.ui_link(SAID),
    "canary_line": lambda: output.canary_line(CANARY),
    "audit_report": lambda: output.audit_report(FOUND),
    "quarantine_table": lambda: output.quarantine_table([QUARANTINED]),
    "automations_table": lambda: output.automations_table([AUTOMATION]),
    "keys_table": lambda: output.keys_table([SERVICE_KEY]),
    "swap_report": lambda: output.swap_report(SWAP),
    "generations_table": lambda: output.generations_table([GENERATION]),
    "progress_bar": shows_a_bar,
    "evaluated_report": lambda: output_evaluation.evaluated_report(cast(Any, EVALUATED)),
    "stream": streams,
    "an error": lambda: fails(PartError(SAID)),
    "an unexpected error": lambda: fails(RuntimeError(SAID)),
}
ONLY_RETURN = {
    "sync_json",
    "audit_json",
    "rebuild_json",
    "swap_json",
    "evaluated_json",
    "place",
    "escape",
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """A terminal, as both consoles take what they print on for; returns what reads it."""
    for console in (output.out, output.err):
        monkeypatch.setattr(console, "_force_terminal", True)
    return lambda: "".join(capsys.readouterr())


def obeyed(text: str) -> set[str]:
    """Return what a terminal obeys in a text, but for the styles and cursor moves that rich makes for us."""
    ours = re.sub(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[012]?K|\d*A)|\r(?=\x1b|\n|\Z)", "", text)
    kinds = ("Cc", "Zl", "Zp", "Cs")
    turns = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return {one for one in ours if (unicodedata.category(one) in kinds and one not in "\n\t") or one in turns}


def test_every_function_that_prints_is_tried() -> None:
    """A new one has to join PRINTED."""
    public = {
        name
        for module in (output, output_evaluation)
        for name, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public - ONLY_RETURN <= set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_nothing_that_is_printed_commands_the_terminal(
    terminal: Callable[[], str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    PRINTED[name]()
    shown = terminal()
    assert obeyed(shown) == set()
    assert "\x1b[8m" not in shown
    assert "\x1b]" not in shown
    assert "\nlockstep: all is well" not in shown
    assert not [trace for trace in tmp_path.iterdir() if obeyed(trace.read_text())]
    if name in ("say", "hits_table", "answer_text", "quarantine_table", "stream", "an error", "an unexpected error"):
        assert WORDS in shown


def test_json_loses_nothing(terminal: Callable[[], str]) -> None:
    output.as_json({"said": KEY})
    assert json.loads(terminal()) == {"said": KEY}


def test_no_command_prints_past_these() -> None:
    """What prints another way would print what others say as it is."""
    past = re.compile(r"sys\.std(?:out|err)\.write|(?<!\.)\bprint\(|typer\.echo|Console\(")
    allowed = {
        "output.py": {"sys.stdout.write(visible(text))", "class Screen(Console):"},
        "main.py": {"visible(hidden(message))"},
    }
    for file in Path(output.__file__).parents[1].rglob("*.py"):
        lines = [
            line.strip()
            for line in file.read_text().splitlines()
            if past.search(line) and "from deployments" not in line
        ]
        assert not [line for line in lines if not any(one in line for one in allowed.get(file.name, ()))], file.name
