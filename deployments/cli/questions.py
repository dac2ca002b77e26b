"""The command that lists what the service was asked, and makes golden questions of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.options import Json, PipelineName
from tasks.errors import MisuseError, why

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
AGE = re.compile(r"(\d{1,6})([mhdw])")
SHOWN = ("id", "mode", "verdict", "reason", "question", "question_hash", "collection", "cited", "tenant", "route")
NO_TEXT = (
    "the service kept no text of these questions, only hashes. Set LOCKSTEP_RECORD_QUESTIONS=true (the setting "
    "record_questions) to keep the text of the next ones"
)


def questions(
    unanswered: Annotated[
        bool, typer.Option("--unanswered", help="Only those that were abstained from, or got a thumb down.")
    ] = False,
    since: Annotated[
        str, typer.Option("--since", help="Only the last 30m, 12h, 7d or 2w. Default: all that are kept.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 100,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write those whose text was kept to a new file, for `evaluate --golden`."),
    ] = None,
    pipeline: PipelineName = None,
    as_json: Json = False,
) -> None:
    """List the questions that the service was asked: when, how they were answered, and what people thought of it."""
    from deployments.cli import output, output_questions
    from deployments.cli.session import open_ledger
    from tasks.ledger.answers import list_answers
    from tasks.ledger.database import now

    begin = now() - age_ms(since) if since else 0
    name, ledger = open_ledger(pipeline)
    with ledger:
        rows = list_answers(ledger, name, begin, limit + 1, only_unanswered=unanswered)
    more, rows = len(rows) > limit, rows[:limit]
    lines = golden_lines(rows) if export else []
    if export:
        write_golden(export, lines)
    if as_json:
        output.as_json({"questions": [shown(row) for row in rows], "more": more, "exported": len(lines)})
    else:
        output_questions.questions_table([shown(row) for row in rows])
    if more:
        output.say(f"there are more than {limit}: raise --limit, or narrow --since")
    if rows and all(row["question"] is None for row in rows):
        output.say(NO_TEXT)
    if export:
        output_questions.exported(export, lines)


def age_ms(text: str) -> int:
    """Return an age such as 12h in ms. Raises ``MisuseError`` for what is none."""
    match = AGE.fullmatch(text.strip())
    if match is None:
        raise MisuseError(f"--since {text} is invalid: give a number and m, h, d or w, such as 12h or 7d.")
    return int(match[1]) * UNITS_MS[match[2]]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a record as it is printed; its time in UTC."""
    at = datetime.fromtimestamp(row["at"] / 1000, UTC).isoformat(timespec="seconds")
    return {"at": at, **{name: row[name] for name in SHOWN}, "cited": row["cited"] or []}


def golden_lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return golden questions of records, newest first: each question that has a text once per tenant.

    ``relevant`` holds what an accepted answer cited. It is None where that is unknown: an empty list would claim that
    no object answers, so `lockstep evaluate` refuses the line until somebody has filled it in.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        place = (row["question_hash"], row["tenant"])
        if row["question"] is not None and place not in lines:
            lines[place] = golden(row)
    return list(lines.values())


def golden(row: dict[str, Any]) -> dict[str, Any]:
    """Return the golden question of a record. A person fills in the objects if nobody accepted what was cited."""
    cited, doubted = row["cited"] or [], row["mode"] == "abstained" or row["verdict"] == "down"
    line: dict[str, Any] = {"question": row["question"], "relevant": None if doubted or not cited else cited}
    if row["tenant"]:
        line["tenant"] = row["tenant"]
    if line["relevant"] is None:
        hints = {"mode": row["mode"], "verdict": row["verdict"], "reason": row["reason"], "cited": cited}
        line |= {name: value for name, value in hints.items() if value}
    return line


def write_golden(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write golden questions to a new file. Raises ``MisuseError`` if there is one already, or nothing to write."""
    if not lines:
        raise MisuseError(f"--export: there is nothing to write to {path}. No question has a text: {NO_TEXT}.")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise MisuseError(f"--export: {path} exists, and may hold what somebody filled in. Name a new file.") from error
    except OSError as error:
        raise MisuseError(f"--export: {path} cannot be written: {why(error)}.") from error
