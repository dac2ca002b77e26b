"""Print the reports of commands: JSON and tables on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tasks.listeners import listener
from tasks.retrieval.scope import EVERYTHING, Scope, nothing_found
from tasks.sanitize import escaped_json, one_line, visible

if TYPE_CHECKING:
    from deployments.local.stack import PartStatus
    from tasks.indexing.audit import Findings
    from tasks.models import Answer, Citation, Hit, Swap, SyncReport


class Screen(Console):
    """A console that strips control sequences from texts: no text can move the cursor or set the clipboard."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments to print. Text segments contain no control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


out = Screen(highlight=False, soft_wrap=True, emoji=False)
err = Screen(stderr=True, highlight=False, soft_wrap=True, emoji=False)

SYNC_KEYS = (
    "collection", "new", "changed", "deleted", "unchanged", "quarantined", "chunks_embedded", "chunks_reused",
    "chunks_deleted", "seconds", "flow_run_id",
)  # fmt: skip
LOAD_SHOWN = 0.05
"""Loading is shown if it takes at least this many seconds."""


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    err.print(markup.escape(line))


def escape(name: str) -> str:
    """Return a name (a key, a heading, a reason) for printing within a line, without markup or line breaks."""
    return markup.escape(one_line(name))


def as_json(value: object) -> None:
    """Print a value as one line of JSON, on stdout."""
    write(escaped_json(json.dumps(value, ensure_ascii=False)) + "\n")


def write(text: str) -> None:
    """Write a text on stdout at once, without control sequences."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def sync_json(report: SyncReport) -> dict[str, Any]:
    """Return a sync's report as `lockstep sync --json` prints it. ``left_out`` appears only if it is not 0."""
    keys = (*SYNC_KEYS, *(("left_out", "left_out_named") if report.left_out else ()))
    return {key: getattr(report, key) for key in keys}


def sync_report(report: SyncReport) -> None:
    """Print a sync's report as a table."""
    table = Table(title=f"{report.collection}  {report.seconds:.1f} s", title_justify="left", box=None)
    table.add_column()
    table.add_column(justify="right")
    for name in ("new", "changed", "deleted", "unchanged", "quarantined"):
        table.add_row(f"objects {name}", f"{getattr(report, name):,}")
    for name in ("chunks_embedded", "chunks_reused", "chunks_deleted"):
        table.add_row(name.replace("_", " "), f"{getattr(report, name):,}")
    out.print(table)
    if report.moved_on:
        say(f"{report.moved_on} objects changed while they were being read: the next sync indexes them")
    if report.left_out:
        first = "; ".join(report.left_out_named)
        say(f"{report.left_out} objects are left out, since no row can hold them: {first}")


def place(citation: Citation | Hit) -> str:
    """Return the place of a citation or hit: key › heading › page."""
    page = f"page {citation.page}" if citation.page else ""
    old = " (an older version)" if citation.outdated else ""
    return " › ".join(part for part in (citation.key, citation.heading, page) if part) + old


def hits_table(collection: str, hits: Sequence[Hit], scope: Scope = EVERYTHING) -> None:
    """Print hits, best first."""
    if not hits:
        say(nothing_found(collection, scope))
    for n, hit in enumerate(hits, start=1):
        out.print(f"[bold]{n}.[/] {hit.score:.3f}  [cyan]{escape(place(hit))}[/]")
        text = " ".join(hit.text.split())
        out.print(escape(f"   {text[:300]}{'…' if len(text) > 300 else ''}"))


def answer_text(answer: Answer, streamed: str = "") -> None:
    """Print an answer with its citations. If it was streamed completely, print only the citations."""
    if streamed.strip() != answer.answer:
        if streamed:
            say("  the text above is not the complete answer. The complete answer is:")
        out.print(markup.escape(answer.answer))
    for line in dict.fromkeys(f"  [dim]\\[{one.n}][/] {_cited(one)}" for one in answer.citations):
        out.print(line)
    cached = " · cached" if answer.cached else ""
    out.print(f"  [dim]mode: {answer.mode} · {answer.collection} · {_took(answer.seconds)}{cached}[/]")
    for note in answer.notes:
        say(f"  {note}")


def _took(seconds: dict[str, float]) -> str:
    """Return the duration of an answer. Loading the model and connecting, once per process, is shown apart."""
    load = seconds.get("load", 0.0)
    worked = f"{max(seconds['total'] - load, 0.0):.2f} s"
    return f"{worked} (loading: {load:.1f} s more)" if load >= LOAD_SHOWN else worked


def _cited(citation: Citation) -> str:
    doubt = "" if citation.verified else f" [yellow](no proof: {escape(repr(citation.quote))})[/]"
    return f"[cyan]{escape(place(citation))}[/]{doubt}"


def keys_table(keys: Sequence[dict[str, Any]]) -> None:
    """Print the keys of the service, a line each."""
    if not keys:
        say("there are no keys: the service answers everybody on this machine, and nobody else")
        return
    table = Table("id", "name", "tenant", "pipelines", "rights", "last used", "ends", box=None)
    for key in keys:
        ends = f"revoked {key['revoked_at']}" if key["revoked_at"] else key["expires_at"] or "never"
        names = ", ".join(key["pipelines"]) or "all"
        used = key["used_at"] or "never"
        cells = (key["id"], key["name"], key["tenant"], names, ", ".join(key["rights"]), used, ends)
        table.add_row(*map(escape, cells))
    out.print(table)


def automations_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the automations of a pipeline, a line each."""
    table = Table("name", "state", "enabled", "action", box=None)
    for row in rows:
        enabled = "" if row["state"] == "missing" else "yes" if row["enabled"] else "no"
        table.add_row(*map(escape, (row["name"], row["state"], enabled, ", ".join(row["actions"]))))
    out.print(table)


def parts_table(parts: Sequence[PartStatus]) -> None:
    """Print the parts of the stack, one per line. Addresses are never cut, however narrow the terminal."""
    colours = {"up": "green", "down": "red"}
    names, states, urls = (
        max((len(getattr(part, field) or "") for part in parts), default=0) for field in ("name", "state", "url")
    )
    for part in parts:
        state = f"[{colours.get(part.state, 'dim')}]{part.state:<{states}}[/]"
        row = f"{part.name:<{names}}  {state}  {escape((part.url or '').ljust(urls))}  {escape(part.detail or '')}"
        out.print(row.rstrip())


def ui_link(address: str) -> None:
    """Print the address of the Prefect UI.

    The link to an embedded server holds the password, so it is printed on terminals only, not in JSON, logs or
    artifacts.
    """
    plain, secret, _ = address.partition("/lockstep/open#")
    if secret and not out.is_terminal:
        address = f"{plain} (`lockstep status` in a terminal prints the link that opens it)"
    out.print(f"Prefect UI: {escape(address)}")


def canary_line(canary: dict[str, Any] | None) -> None:
    """Print which generation is in canary, if one is."""
    if canary:
        until = datetime.fromtimestamp(canary["until"] / 1000).astimezone().isoformat(" ", timespec="seconds")
        out.print(
            f"canary: {canary['collection']} answers {canary['share']}% of the questions, {canary['live']} the rest "
            f"(step {canary['step']} of {len(canary['steps'])}, until {until})"
        )


def audit_json(found: Findings) -> dict[str, Any]:
    """Return an audit as `lockstep audit --json` prints it: at most 10,000 keys of each kind.

    ``left_out`` and ``fingerprint`` appear only if objects were left out, or the fingerprint is wrong.
    """
    numbers = {"consistent": found.consistent, "objects": found.objects, "chunks": found.chunks}
    wrong = {"fingerprint": found.fingerprint} if found.fingerprint else {}
    left_out = {"left_out": found.left_out, "left_out_named": found.left_out_named} if found.left_out else {}
    return {**numbers, **found.keys, **wrong, **left_out}


def audit_report(found: Findings) -> None:
    """Print an audit: the verdict, and each inconsistent key."""
    from tasks.indexing.report import KINDS, findings

    out.print(
        f"{found.collection}: {findings(found)}  ({found.objects:,} objects, {found.chunks:,} chunks, "
        f"{found.counts['quarantined']:,} in quarantine)"
    )
    if found.left_out:
        first = "; ".join(found.left_out_named)
        say(f"{found.left_out} objects are left out, since no row can hold them: {first}")
    for kind in KINDS:
        for key in found.keys[kind]:
            out.print(f"  [red]{kind:<10}[/]  [cyan]{escape(key)}[/]  {escape(found.details.get(key, ''))}")


def quarantine_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the objects in quarantine, one per paragraph."""
    if not rows:
        say("the quarantine is empty")
    for row in rows:
        times = f"{row['attempts']} attempt{'s' * (row['attempts'] != 1)} since {row['since']}"
        old = "; an older version answers" if row["older_version_answers"] else ""
        out.print(f"[cyan]{escape(row['key'])}[/]  {escape(row['reason'])}  [dim]({times}{old})[/]")


SWAP_KEYS = ("collection", "before", "state", "promoted", "gates", "seconds", "flow_run_id")
REBUILD_KEYS = (
    "collection", "state", "promoted", "chunks_embedded", "chunks_reused", "gates", "seconds", "flow_run_id",
)  # fmt: skip
QUALITY_GATES = ("recall@10 of the index", "p95 latency / live")
GATE_KEYS = ("name", "value", "bound", "passed")


def rebuild_json(done: Swap) -> dict[str, Any]:
    """Return a rebuild as `lockstep rebuild --json` prints it."""
    return {**{key: getattr(done, key) for key in REBUILD_KEYS}, "gates": _gates(done)}


def swap_json(done: Swap) -> dict[str, Any]:
    """Return a promotion or a rollback as their `--json` prints it."""
    return {**{key: getattr(done, key) for key in SWAP_KEYS}, "gates": _gates(done)}


def _gates(done: Swap) -> list[dict[str, Any]]:
    return [{key: gate[key] for key in GATE_KEYS} for gate in done.gates]


def swap_report(done: Swap) -> None:
    """Print the result of a rebuild, a promotion or a rollback."""
    what = f"is live now, before it was {done.before or 'nothing'}" if done.promoted else f"is {done.state}"
    cost = f", {done.chunks_embedded:,} chunks embedded, {done.chunks_reused:,} reused"
    out.print(
        f"{done.collection} {what}  ({done.seconds:.1f} s{cost if done.state != 'live' or not done.gates else ''})"
    )
    for gate in done.gates:
        verdict = "[green]passed[/]" if gate["passed"] else "[red]FAILED[/]"
        detail = escape(gate["detail"])
        out.print(f"  {verdict}  {gate['name']}: {gate['value']:g} (must be {gate['bound']})  [dim]{detail}[/]")


def generations_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the generations, newest first: state and size, gate values, and differences from the live one."""
    if not rows:
        say("there is no generation yet. Run `lockstep sync` to build the first")
    for row in rows:
        colour = "green" if row["state"] == "live" else "dim"
        size = f", {row['vector_bytes'] / 1e6:,.1f} MB of vectors" if row["vector_bytes"] is not None else ""
        out.print(
            f"{row['collection']}  [{colour}]{row['state']:<8}[/]  {row['objects']:,} objects, "
            f"{row['chunks']:,} chunks{size}, created {row['created']}"
            + (f", promoted {row['promoted']}" if row["promoted"] else "")
        )
        figures = [f"{gate['name']} {gate['value']:g}" for gate in row["gates"] if gate["name"] in QUALITY_GATES]
        figures += [f"golden {name} {value:.3f}" for name, value in row["quality"].items()]
        if figures:
            out.print(f"    {', '.join(figures)}")
        if row["forced"]:
            out.print(f"    [yellow]promoted against its gates by {escape(row['forced']['who'])}[/]: "
                      f"{escape(row['forced']['why'])}")  # fmt: skip
        for difference in row["differs"]:
            out.print(f"    [dim]{escape(difference)}[/]")


class Rate(ProgressColumn):
    """The objects a second of the last half a minute."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before there is one."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


class Bar:
    """A progress bar that listens to a sync."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("listing", total=None)

    def listed(self, objects: int) -> None:
        """Show the number of listed objects."""
        self._progress.update(self._task, description=f"listing: {objects:,} objects")

    def planned(self, objects: int) -> None:
        """Show the number of objects to process."""
        self._progress.update(self._task, description="indexing", total=max(objects, 1), completed=not objects)

    def advanced(self, objects: int) -> None:
        """Advance the bar."""
        self._progress.advance(self._task, objects)


@contextmanager
def progress_bar(shown: bool) -> Iterator[None]:
    """Show the progress of a sync called inside, on stderr."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        token = listener.set(Bar(progress))
        try:
            yield
        finally:
            listener.reset(token)
