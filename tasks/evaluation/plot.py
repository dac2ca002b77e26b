"""Draw the rank changes of golden questions, for a report."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.evaluation.metrics import DEPTH

if TYPE_CHECKING:
    from tasks.evaluation.compare import Change

GAINED, LOST, SAME = "#2b8a3e", "#c92a2a", "#adb5bd"


def rank_changes(changes: Sequence[Change], before: str, now: str) -> bytes:
    """Return a picture (SVG): a line a question, from its place before to its place now, gained green, lost red.

    The numbers beside the lines are how many questions have that place.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    places = [(one.before or DEPTH + 1, one.now or DEPTH + 1) for one in changes]
    # Lines that lie on each other are one line, the thicker the more questions it stands for; what changed is on top.
    for (old, new), count in sorted(Counter(places).items(), key=lambda line: line[0][0] != line[0][1]):
        colour = SAME if old == new else GAINED if new < old else LOST
        axes.plot([0, 1], [old, new], color=colour, linewidth=min(1 + count / 2, 9), alpha=0.85, marker="o")
    for side, offset, align in ((0, -12, "right"), (1, 12, "left")):
        for place, count in Counter(pair[side] for pair in places).items():
            axes.annotate(
                str(count), (side, place), (offset, 0), textcoords="offset points", va="center", ha=align, fontsize=8
            )
    axes.set_xlim(-0.15, 1.15)
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
