"""No text stops the process that reads it: what looks at text takes time in proportion to its length.

Every compiled pattern of the code is found by walking the modules, so a new one is tried as well; calls of ``re`` that
hide a pattern within a function are refused.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import blocks
import deployments
import flows
import tasks
from tasks import chunk, cite, claims, extract, generate, parsers, passages, pdf, report, words
from tasks.decode import decode
from tasks.errors import LockstepError
from tasks.fence import neutral
from tasks.filters import compiled
from tasks.golden import parse_golden
from tasks.models import Hit
from tasks.prompt import build
from tasks.question import checked
from tasks.quotes import locate
from tasks.sentences import sentences
from tasks.spoken import Spoken, said_aloud

ROOT = Path(__file__).parents[2]
UNITS = (
    *" \t\n\xa0\x85\0\u200b\u202e\u0301\U000e0041aA1\u0663²字。かกﷺ😀｜",
    *"<>[](){}|/\\`'\"*#_-.,:;!?=&%$@~^+",
    *(
        "\r\n",
        "< ",
        "[ ",
        "a. ",
        'a." ',
        '."',
        "[1,",
        "[1]",
        "[1] ",
        "[1, 1",
        "1: ",
        "1: [1] ",
        "\n1",
        "- ",
        "# ",
        "x\n",
    ),
    *("x \n ", "<s", "<a>", "</a>", "<!--", "-->", "<table>", "<table", "<table><caption>", "<caption", "</caption>"),
    *(
        "<details",
        "<details ",
        "---\n",
        "a:\n",
        "{#",
        "{ ",
        "} ",
        '{"',
        '"claims": [',
        "```",
        "```\n",
        "aB",
        "a_",
        "不a",
    ),
    *("<|", "<<", "not ", "a.b", "&lt;", "![", "a@", "http://", "\u0301\u0323", "\U0001f468\u200d"),
)
STARTS = (
    "", "<", "[", "[1", "1", "1:", "{", "(", "- ", ".", "a", "```json", "```json\n{", "<think>", "<!--", "<table ",
    "<table>", "<table><caption>", "<details", "---\na: b\n", "context length", "</", "<<", "x{#", '{"claims"',
    "W3CDTF\">", "password=", "metadata.",
)  # fmt: skip
AFTER = (" ", "\n", "a", "1", ")", '"', ",", "<")
LENGTH = 6_000
QUICK = 0.015
"""Seconds of the CPU: what is linear takes a tenth of them, what is quadratic three times as many."""


def modules() -> Iterator[Any]:
    """Yield every module of the code, but the one that is only for processes in which there is to be no torch."""
    for package in (blocks, tasks, flows, deployments):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in found.name and found.name != "tasks.without_torch":
                yield importlib.import_module(found.name)


def patterns() -> dict[str, re.Pattern[Any]]:
    """Return every compiled pattern at the top of a module, by its name."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


PATTERNS = patterns()


def texts(length: int) -> Iterator[tuple[str, str]]:
    """Yield long runs of everything, at the start of a text and behind what starts a match, each with a name."""
    for unit in UNITS:
        yield ascii(unit), unit * (length // len(unit)) + "\x01"
    for start in STARTS[1:]:
        for unit in AFTER:
            yield f"{start!r} and {unit!r}", start + unit * (length // len(unit)) + "\x01"


def hit(text: str) -> Hit:
    """Return a chunk with this text."""
    return Hit("id", "a.md", 0.5, text, "", None)


def said(text: str) -> Spoken:
    """Return a model's answer with this text."""
    return Spoken(text, False)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "neutral": lambda text: neutral(text, marks=True),
    "a quote": lambda text: locate(text[: len(text) // 2], text),
    "sentences": sentences,
    "the sentences of a chunk": chunk.SENTENCE.findall,
    "an answer with marks, checked": lambda text: cite.check(generate.marked(said(text)), [hit(text)] * 2),
    "an answer with marks, so far": lambda text: generate.so_far(text, "marked"),
    "lines of marks": lambda text: generate.assignments(said(text), "marked"),
    "an answer in JSON": lambda text: generate.structured(said(text)),
    "an answer in JSON, so far": lambda text: generate.so_far(text, "structured"),
    "claims": lambda text: claims.complete(claims.Claimed, "claims", '{"claims": [' + text),
    "thoughts": lambda text: said_aloud("<think>" + text),
    "words": words.words,
    "copies": lambda text: passages.without_copies([hit(text), hit(text)], 0.9),
    "an extract": lambda text: [extract.quoted(1, *one) for one in extract.candidates([hit(text)])],
    "a filter": compiled,
    "a filter's value": lambda text: compiled("key=" + text),
    "a question": checked,
    "a prompt": lambda text: build(text, [hit(text)], "marked"),
    "golden questions": lambda text: parse_golden(text, "golden.jsonl"),
    "bytes": lambda text: decode(text.encode()),
    "HTML": parsers.opened,
    "a page": lambda text: pdf.paragraphs(text.splitlines()),
    "a report": report.plain,
}  # fmt: skip


def refused(call: Callable[[str], object]) -> Callable[[str], None]:
    """Return a call that may say that a text will not do."""

    def attempt(text: str) -> None:
        with contextlib.suppress(LockstepError):
            call(text)

    return attempt


SHORT, LONG = list(texts(LENGTH // 4)), list(texts(LENGTH))
FEW, MORE = list(texts(500)), list(texts(2000))


def cpu(call: Callable[[Any], object], text: Any) -> float:
    """Return the seconds of the CPU that a call takes."""
    begin = time.process_time()
    call(text)
    return time.process_time() - begin


def slow(
    call: Callable[[Any], object],
    form: Callable[[str], Any] = str,
    quick: float = QUICK,
    tried: tuple[list[tuple[str, str]], list[tuple[str, str]]] = (SHORT, LONG),
) -> Iterator[str]:
    """Yield the texts for which a call's time grows faster than their length: four times as long, over ten as slow."""
    for (name, short), (_, long) in zip(*tried, strict=True):
        first = cpu(call, form(short))
        if first > 10 * quick:  # a call may load something once
            first = cpu(call, form(short))
        if first > 10 * quick:  # do not wait for the long one
            yield f"{name}: {first:.2f} s"
        elif cpu(call, form(long)) > quick:
            before, after = (min(cpu(call, form(text)) for _ in range(3)) for text in (short, long))
            if after > quick and after > 10 * before:
                yield f"{name}: {before:.3f} s, four times as long {after:.3f} s"


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_time_in_proportion(name: str) -> None:
    pattern = PATTERNS[name]
    form: Callable[[str], Any] = str if isinstance(pattern.pattern, str) else str.encode
    module, _, own = name.rpartition(".")
    fully = f"{own}.fullmatch(" in inspect.getsource(importlib.import_module(module))

    def use(text: Any) -> None:
        for _ in pattern.finditer(text):
            pass
        if fully:
            pattern.fullmatch(text)

    assert list(slow(use, form=form)) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_reads_a_text_takes_time_in_proportion(name: str) -> None:
    assert list(slow(refused(FUNCTIONS[name]), tried=(FEW, MORE))) == []


def test_a_pattern_that_is_quadratic_would_be_noticed() -> None:
    for bad in (r"\s+$", r"<(?=\s*/?\s*passage)", r"^\W*(\d{1,3})\s*[:.)]", r"<!--.*?-->", r"\s*\n\s*"):
        pattern = re.compile(bad, re.DOTALL | re.MULTILINE)
        found = slow(lambda text, pattern=pattern: pattern.sub("", text), tried=(FEW, MORE), quick=QUICK / 9)  # type: ignore[misc]
        assert next(found, None), bad


def test_no_pattern_hides_within_a_function() -> None:
    hidden = []
    for path in sorted(path for package in ("blocks", "tasks", "flows") for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        top = {id(node) for one in tree.body if isinstance(one, ast.Assign) for node in ast.walk(one)}
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "re" and called.attr != "escape":
                hidden += [] if id(node) in top else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert hidden == []
