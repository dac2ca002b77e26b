"""Write the reports of an evaluation and of a promotion."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.evaluation.compare import Change, better, changes, differences, worse
from tasks.evaluation.metrics import DEPTH, NAMES
from tasks.text.markdown import Markdown, inline, table

if TYPE_CHECKING:
    from tasks.evaluation.compare import Difference
    from tasks.evaluation.evaluate import Evaluation
    from tasks.evaluation.gates import GateReport


QUESTIONS_SHOWN = 200
MEGABYTE = 1_000_000


def evaluation_markdown(
    evaluation: Evaluation, baseline: Evaluation | None, found: dict[str, Difference], where: str
) -> str:
    """Return an evaluation's report: the measures, beside the baseline's if there is one, and the failed questions."""
    parts = [
        f"# {inline(evaluation.label)}: {len(evaluation.outcomes):,} golden questions",
        f"From {inline(where)}.",
        _measures(evaluation, baseline, found),
    ]
    if baseline:
        parts += _rank_changes(evaluation, baseline)
    missed = [one for one in evaluation.answerable if one.rank is None]
    if missed:
        rows = [[one.question, ", ".join(one.relevant), ", ".join(one.found[:3])] for one in missed[:QUESTIONS_SHOWN]]
        parts += ["## No relevant object in the top ten", table(["question", "relevant", "found first"], rows)]
        if len(missed) > QUESTIONS_SHOWN:
            parts.append(f"… and {len(missed) - QUESTIONS_SHOWN:,} more.")
    return "\n\n".join(parts)


def _measures(evaluation: Evaluation, baseline: Evaluation | None, found: dict[str, Difference]) -> str:
    before: dict[str, float] = baseline.measures if baseline else {}
    rows = [[name, *_figures(evaluation.measures[name], before.get(name), found.get(name))] for name in NAMES]
    for name, now in evaluation.latency.items():
        rows.append([f"latency {name.replace('_ms', ', ms')}", f"{now:.1f}"])
        rows[-1] += [f"{baseline.latency[name]:.1f}", ""] if baseline else []
    for name, share in evaluation.abstention.items():
        if share is not None:
            rows.append([f"abstained, {name}", f"{share:.1%}"])
            other = baseline.abstention[name] if baseline else None
            rows[-1] += [f"{other:.1%}", ""] if other is not None else []
    header = ["", evaluation.label]
    if baseline:
        header += [baseline.label, "difference (95% interval)"]
    return table(header, rows)


def _figures(now: float, before: float | None, difference: Difference | None) -> list[str]:
    if before is None or difference is None:
        return [f"{now:.3f}"]
    interval = f"{difference.difference:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    return [f"{now:.3f}", f"{before:.3f}", interval]


def _rank_changes(evaluation: Evaluation, baseline: Evaluation) -> list[str]:
    found = changes(evaluation, baseline)
    up, down = better(found), worse(found)
    same = sum(one.gained == 0 for one in found)
    parts = [
        "## Questions",
        f"{sum(one.gained > 0 for one in found)} got better, {sum(one.gained < 0 for one in found)} worse, {same} "
        "stayed the same.",
        as_markdown(rank_changes(found, baseline.label, evaluation.label), "place of the first relevant object"),
    ]
    for title, some in (("Better", up), ("Worse", down)):
        if some:
            parts += [f"### {title}, most first", table(["question", "place before", "now"], _places(some))]
    return parts


def _places(some: Sequence[Change]) -> list[list[object]]:
    return [[one.question, one.before or "none", one.now or "none"] for one in some]


def promotion_markdown(report: GateReport, rows: Sequence[dict[str, Any]], force: str = "", by: str = "") -> str:
    """Return a promotion's report: the gates, compared with the live generation. ``rows`` come from the overview."""
    verdict = "not all gates passed" if report.failed else "all gates passed"
    parts = [f"# {inline(report.collection)}: {verdict}"]
    if force and report.failed:
        parts.append(f"> Promotion forced by {inline(by or 'somebody')}: {inline(force)}")
    verdicts = {True: "passed", False: Markdown("**FAILED**")}
    gates = [[gate.name, f"{gate.value:g}", gate.bound, verdicts[gate.passed], gate.detail] for gate in report.gates]
    parts += ["## Gates", table(["gate", "value", "bound", "", ""], gates)]
    sides = {row["collection"]: row for row in rows}
    new, live = sides[report.collection], sides.get(report.live or "")
    parts += ["## Side by side", _side_by_side(new, live), *_settings(new)]
    if len(report.evaluations) > 1:
        one, other = report.evaluations
        parts += ["## Golden questions", _measures(one, other, differences(one, other)), *_rank_changes(one, other)]
    elif report.evaluations:
        parts += ["## Golden questions", _measures(report.evaluations[0], None, {})]
    else:
        parts.append("> No golden questions are set (`golden` in the pipeline's settings): quality was not compared.")
    return "\n\n".join(parts)


def _side_by_side(new: dict[str, Any], live: dict[str, Any] | None) -> str:
    sides = [new, live] if live else [new]
    rows: list[list[object]] = [
        ["objects", *(f"{one['objects']:,}" for one in sides)],
        ["chunks", *(f"{one['chunks']:,}" for one in sides)],
        ["in quarantine", *(f"{one['quarantined']:,}" for one in sides)],
        ["vectors, MB", *(f"{(one['vector_bytes'] or 0) / MEGABYTE:,.1f}" for one in sides)],
        ["chunks embedded", *(f"{one['chunks_embedded']:,}" for one in sides)],
        ["chunks with a reused vector", *(f"{one['chunks_reused']:,}" for one in sides)],
        ["seconds to build it", *(f"{one['seconds']:,.1f}" for one in sides)],
        ["created", *(one["created"] for one in sides)],
    ]
    return table(["", new["collection"], f"{live['collection']} (live)"] if live else ["", new["collection"]], rows)


def _settings(new: dict[str, Any]) -> list[str]:
    if not new["differs"]:
        return ["It was built with the same settings as the live generation."]
    return ["Settings that differ (this → live):", "\n".join(f"- {inline(one)}" for one in new["differs"])]


GAINED, LOST, SAME = "#2b8a3e", "#c92a2a", "#adb5bd"


def rank_changes(changes: Sequence[Change], before: str, now: str) -> bytes:
    """Return an SVG chart with one line per question, from its rank before to its rank now. Gains green, losses red.

    The numbers beside the lines count the questions at that rank.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    places = [(one.before or DEPTH + 1, one.now or DEPTH + 1) for one in changes]
    # Equal lines are drawn as one, thicker for more questions. Changed ranks are drawn last, so they are on top.
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
    """Return an SVG picture as Markdown with the picture inside."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(picture).decode()})"
