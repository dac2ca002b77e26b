"""Print the questions that the service was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from deployments.cli.output import escape, out, say

HASH_SHOWN = 12
THUMBS = {"up": "up", "down": "[red]down[/]", None: ""}


def questions_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print records, a line each: the question's text if it was kept, else the start of its hash."""
    if not rows:
        say("the service was asked nothing of the kind")
        return
    table = Table("time (UTC)", "mode", "verdict", "reason", "question", box=None)
    for row in rows:
        text = row["question"]
        asked = escape(text) if text is not None else f"[dim]#{row['question_hash'][:HASH_SHOWN]}[/]"
        at = row["at"].removesuffix("+00:00").replace("T", " ")
        table.add_row(at, row["mode"], THUMBS[row["verdict"]], escape(row["reason"] or ""), asked)
    out.print(table)


def exported(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Say what was written, and what is left to do with it."""
    say(f"{len(lines)} golden questions were written to {path}")
    unknown = sum(line["relevant"] is None for line in lines)
    if unknown:
        say(
            f'in {unknown} of them "relevant" is null: write the keys of the objects that answer, or [] if none does. '
            "Until then `lockstep evaluate` refuses the line"
        )
    if lines and unknown < len(lines):
        say("the others name what their answers cited: check that before you measure with it")
