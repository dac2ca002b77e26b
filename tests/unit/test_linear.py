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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import blocks
import deployments
import flows
import tasks
from tasks.answers import extractive, generate
from tasks.answers.fence import neutral
from tasks.answers.prompt import build
from tasks.chat.response import ChatResponse, said_aloud
from tasks.citations import json_answer, verify
from tasks.citations.quotes import locate
from tasks.documents import chunk, parse, pdf
from tasks.documents.decode import decode
from tasks.errors import LockstepError
from tasks.evaluation.golden import parse_golden
from tasks.indexing import report
from tasks.models import Hit
from tasks.retrieval import ranking
from tasks.retrieval.filters import compiled
from tasks.retrieval.question import checked
from tasks.text import words
from tasks.text.sentences import sentences

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
OF_PATTERNS, OF_FUNCTIONS = (320, 1_000, 3_000, 8_000, 16_000), (400, 3_200)
EVERYTHING = (320, 3_000)
"""Lengths of the texts: the short ones find at once what would take minutes for the long ones."""
TOO_SLOW, TOO_STEEP = 0.2, 30
"""Seconds of the CPU, and how many times as long eight times the text may take: in proportion it is 8, squared 64."""


def modules() -> Iterator[Any]:
    """Yield every module of the code, but the one that is only for processes in which there is to be no torch."""
    for package in (blocks, tasks, flows, deployments):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in found.name and found.name != "tasks.documents.without_torch":
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


def texts(length: int, after: Sequence[str]) -> list[str]:
    """Return long runs of everything, at the start of a text and, of some, behind what starts a match."""
    begun = [(start, unit) for start in STARTS for unit in after if start]
    return [start + unit * (length // len(unit)) + "\x01" for start, unit in [*(("", unit) for unit in UNITS), *begun]]


def hit(text: str) -> Hit:
    """Return a chunk with this text."""
    return Hit("id", "a.md", 0.5, text, "", None)


def said(text: str) -> ChatResponse:
    """Return a model's answer with this text."""
    return ChatResponse(text, False)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "neutral": lambda text: neutral(text, marks=True),
    "a quote": lambda text: locate(text[: len(text) // 2], text, whole_words=True),
    "a quote that begins within a word": lambda text: locate(text[: len(text) // 4], f"b {text}b", whole_words=True),
    "sentences": sentences,
    "the sentences of a chunk": chunk.SENTENCE.findall,
    "an answer with marks, checked": lambda text: verify.check(generate.marked(said(text)), [hit(text)] * 2),
    "an answer with marks, so far": lambda text: generate.so_far(text, "marked"),
    "lines of marks": lambda text: generate.assignments(said(text), "marked"),
    "an answer in JSON": lambda text: generate.structured(said(text)),
    "an answer in JSON, so far": lambda text: generate.so_far(text, "structured"),
    "claims": lambda text: json_answer.complete(json_answer.Claimed, "claims", '{"claims": [' + text),
    "thoughts": lambda text: said_aloud("<think>" + text),
    "words": words.words,
    "copies": lambda text: ranking.without_copies([hit(text), hit(text)], 0.9),
    "an extract": lambda text: [extractive.quoted(1, *one) for one in extractive.candidates([hit(text)])],
    "a filter": compiled,
    "a filter's value": lambda text: compiled("key=" + text),
    "a question": checked,
    "a prompt": lambda text: build(text, [hit(text)], "marked"),
    "golden questions": lambda text: parse_golden(text, "golden.jsonl"),
    "bytes": lambda text: decode(text.encode()),
    "HTML": parse.opened,
    "a page": lambda text: pdf.paragraphs(text.splitlines()),
    "a report": report.plain,
}  # fmt: skip


QUADRATIC = {
    "a fence": re.compile(r"<(?=\s*/?\s*passage)", re.IGNORECASE),
    "a line of marks": re.compile(r"^\W*(\d{1,3})\s*[:.)]\s*((?:\s*\[[\d\s,]+\])+)", re.MULTILINE),
    "the end of a line": re.compile(r"(?:(?<=[.!?])|(?<=\d\]))(?P<space>[^\S\n]+)(?=[^\sa-z\[])|(?P<line>\s*\n\s*)"),
    "a comment": re.compile(r"<!--.*?-->", re.DOTALL),
    "numbers behind a bracket": re.compile(r"\[\d*\d*\d*,"),
    "letters in a tag": re.compile(r"<[a-z]*[a-z]*[a-z]*>"),
}
"""Patterns of which each takes time in the square of some text."""


def refused(call: Callable[[str], object]) -> Callable[[str], None]:
    """Return a call that may say that a text will not do."""

    def attempt(text: str) -> None:
        with contextlib.suppress(LockstepError):
            call(text)

    return attempt


FEW = (" ", "1", "a")
PAIRS = {
    length: list(zip(texts(length, after), texts(length // 8, after), strict=True))
    for length, after in (
        *((length, UNITS if length in EVERYTHING else FEW) for length in OF_PATTERNS),
        *((length, FEW) for length in OF_FUNCTIONS),
    )
}
"""By length: every text, and an eighth of it."""


def cpu(call: Callable[[Any], object], text: Any) -> float:
    """Return the seconds of the CPU that a call takes."""
    begin = time.process_time()
    call(text)
    return time.process_time() - begin


def slow(call: Callable[[str], object], lengths: tuple[int, ...]) -> str:
    """Return the first text for which a call's time grows faster than its length, and the times; none: empty.

    Only what is slow is timed again, without what it does once, and with an eighth of the text.
    """
    for length in lengths:
        for text, eighth in PAIRS[length]:
            if cpu(call, text) > TOO_SLOW and (after := cpu(call, text)) > TOO_SLOW:
                before = min(cpu(call, eighth) for _ in range(3))
                if after > TOO_STEEP * before:
                    return f"{text[:24]!a}: {after:.2f} s, an eighth of it {before:.4f} s"
    return ""


def use_of(pattern: re.Pattern[Any], fully: bool = False) -> Callable[[str], None]:
    """Return a call that finds all that a pattern matches in a text."""

    def use(text: str) -> None:
        given = text if isinstance(pattern.pattern, str) else text.encode()
        for _ in pattern.finditer(given):
            pass
        if fully:
            pattern.fullmatch(given)

    return use


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_time_in_proportion(name: str) -> None:
    module, _, own = name.rpartition(".")
    fully = f"{own}.fullmatch(" in inspect.getsource(importlib.import_module(module))
    assert slow(use_of(PATTERNS[name], fully), OF_PATTERNS) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_reads_a_text_takes_time_in_proportion(name: str) -> None:
    assert slow(refused(FUNCTIONS[name]), OF_FUNCTIONS) == ""


@pytest.mark.parametrize("name", QUADRATIC)
def test_a_pattern_that_is_quadratic_is_noticed(name: str) -> None:
    assert slow(use_of(QUADRATIC[name]), OF_PATTERNS) != ""


def test_a_function_that_is_quadratic_is_noticed() -> None:
    def squared(text: str) -> int:
        return sum(1 for at in range(len(text)) for _ in 3 * text[at:])

    assert slow(squared, OF_FUNCTIONS) != ""


def test_no_pattern_hides_within_a_function() -> None:
    hidden = []
    for path in sorted(path for package in ("blocks", "tasks", "flows") for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        top = {id(node) for one in tree.body if isinstance(one, ast.Assign | ast.AnnAssign) for node in ast.walk(one)}
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "re" and called.attr != "escape":
                hidden += [] if id(node) in top else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert hidden == []
