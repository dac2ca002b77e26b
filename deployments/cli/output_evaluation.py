"""Print an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from deployments.cli.output import escape, out, say

if TYPE_CHECKING:
    from flows.evaluate import Evaluated
    from tasks.evaluation.evaluate import Evaluation


def evaluated_json(done: Evaluated) -> dict[str, Any]:
    """Return an evaluation as `lockstep evaluate --json` prints it."""
    from tasks.evaluation.compare import as_json

    shown = {**_json(done.evaluation), "left_out": done.left_out, "flow_run_id": done.flow_run_id}
    if done.baseline:
        shown |= {"against": _json(done.baseline), "differences": as_json(done.differences)}
    return shown


def _json(evaluation: Evaluation) -> dict[str, Any]:
    from tasks.evaluation.evaluate import as_rows

    return {
        "collection": evaluation.collection,
        "mode": evaluation.mode,
        "questions": len(evaluation.outcomes),
        "measures": evaluation.measures,
        "latency": evaluation.latency,
        "abstention": evaluation.abstention,
        "per_question": as_rows(evaluation),
    }


def evaluated_report(done: Evaluated) -> None:
    """Print an evaluation: the measures, and the questions without a relevant object in the top ten."""
    evaluation, baseline = done.evaluation, done.baseline
    table = Table(title=f"{len(evaluation.outcomes)} golden questions", title_justify="left")
    table.add_column("")
    table.add_column(evaluation.label, justify="right")
    if baseline:
        table.add_column(baseline.label, justify="right")
        table.add_column("difference (95% interval)", justify="right")
    for name, value in evaluation.measures.items():
        row = [name, f"{value:.3f}"]
        if baseline:
            by = done.differences[name]
            row += [f"{baseline.measures[name]:.3f}", f"{by.difference:+.3f} ({by.low:+.3f} to {by.high:+.3f})"]
        table.add_row(*row)
    for name, now in evaluation.latency.items():
        table.add_row(name, f"{now:.1f}", *([f"{baseline.latency[name]:.1f}", ""] if baseline else []))
    for name, share in evaluation.abstention.items():
        if share is not None:
            other = baseline.abstention[name] if baseline else None
            table.add_row(f"abstained, {name}", f"{share:.1%}", *([f"{other:.1%}", ""] if other is not None else []))
    out.print(table)
    missed = [one for one in evaluation.answerable if one.rank is None]
    for one in missed:
        out.print(f"  [red]not in the top ten[/]  {escape(one.question)}  [dim]({escape(', '.join(one.relevant))})[/]")
    if done.left_out:
        say(f"{done.left_out} questions were left out: their objects are not indexed")
