"""Read a file of questions."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.errors import MisuseError, why
from tasks.retrieval.question import Question, check_text, checked


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file with one JSON ``{"id", "question"}`` per line.

    Raises ``MisuseError`` for the first malformed line, before any question is answered.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"--queries-file {path} cannot be read: {why(error)}.") from error
    found: list[Question] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_question(line, f"{path}, line {number}"))
    return found


def _question(line: str, where: str) -> Question:
    expected = 'is not a JSON object with "id" and "question"'
    try:
        given = json.loads(line)
        check_text("the id", name := str(given["id"]))
        return Question(name, checked(given["question"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{where} {expected}: {line[:80]}") from error
    except MisuseError as error:
        raise MisuseError(f"{where}: {error}") from error
