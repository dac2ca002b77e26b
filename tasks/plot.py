"""Draw the rank changes of golden questions, for a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.measures import DEPTH

if TYPE_CHECKING:
    from tasks.compare import Change

GAINED, LOST, SAME = "#2b8a3e", "#c92a2a", "#adb5bd"


def rank_changes(changes: Sequence[Change], before: str, now: str) -> bytes:
    """Return a picture (SVG): a line a question, from its place before to its place now, gained green, lost red."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    # Lines that lie on each other are one line, the thicker the more questions it stands for.
    lines: dict[tuple[int, int], int] = {}
    for one in changes:
        places = (one.before or DEPTH + 1, one.now or DEPTH + 1)
        lines[places] = lines.get(places, 0) + 1
    for (old, new), count in sorted(lines.items(), key=lambda line: line[0][0] == line[0][1], reverse=True):
        colour = SAME if old == new else GAINED if new < old else LOST
        axes.plot([0, 1], [old, new], color=colour, linewidth=min(1 + count / 2, 9), alpha=0.85, marker="o")
        axes.annotate(str(count), (1, new), (8, 0), textcoords="offset points", va="center", color=colour, fontsize=8)
    axes.set_xlim(-0.1, 1.2)
    axes.set_xticks([0, 1], [f"{before}\nbefore", f"{now}\nnow"])
    axes.set_ylim(DEPTH + 1.5, 0.5)
    axes.set_yticks([*range(1, DEPTH + 2)], [*map(str, range(1, DEPTH + 1)), "none"])
    axes.set_ylabel("place of the first relevant object")
    axes.spines[["top", "right"]].set_visible(False)
    made = io.BytesIO()
    figure.savefig(made, format="svg", metadata={"Date": None})
    return made.getvalue()


def as_markdown(picture: bytes, title: str) -> str:
    """Return a picture (SVG) as Markdown that holds it."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(picture).decode()})"
