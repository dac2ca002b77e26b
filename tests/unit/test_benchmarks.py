"""Benchmarks run seldom: what they import, reach into and replace has to be there all the same."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("blocks", "tasks", "flows", "deployments", "benchmarks")
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def trees(path: Path) -> list[ast.Module]:
    """Return a benchmark's code, and the programs that it hands to other processes as text."""
    tree = ast.parse(path.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [
        tree,
        *(ast.parse(text) for text in texts if text.startswith(("\nfrom ", "\nimport ", "from ")) and "\n" in text),
    ]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_names_exists(path: Path) -> None:
    for tree in trees(path):
        modules: dict[str, ModuleType] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    value = getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                    if isinstance(value, ModuleType):
                        modules[alias.asname or alias.name] = value
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("patch") and node.args:
                target, _, name = str(ast.literal_eval(node.args[0])).rpartition(".")
                assert hasattr(importlib.import_module(target), name), f"{path.name}:{node.lineno}"


def test_the_edits_are_counted() -> None:
    from benchmarks.edits import measure_edits, packed
    from tasks.documents.cut_points import cut
    from tasks.models import Element

    text = " ".join(f"Sentence {number} of a text that goes on for a while." for number in range(60))
    documents = [[Element(text, ("Heading",), None), Element(text[::-1], ("Heading",), None)]]
    for cut_with in (packed, cut):
        chunks, changed = measure_edits(documents, 3, cut_with)
        assert chunks > 3
        assert len(changed) == 3
        assert min(changed) >= 1
