"""Write the reports of syncs and audits for the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.text.markdown import inline, plain, table

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.indexing.audit import Findings
    from tasks.models import Loss, SyncReport

AUDIT_SHOWN = 200
KINDS = ("missing", "orphaned", "stale", "duplicated")


def sync_markdown(
    report: SyncReport,
    totals: dict[str, int],
    changes: Sequence[tuple[str, str, int]],
    quarantined: Sequence[dict[str, Any]],
    settings: Settings,
) -> str:
    """Return a sync's report: changes, reused vectors, failures, speed and settings."""
    handled = report.new + report.changed + report.deleted
    parts = [
        f"# {inline(report.collection)}: +{report.new} ~{report.changed} -{report.deleted}",
        *_numbers(report, totals),
    ]
    if report.left_out:
        parts += ["## Left out", "\n".join(f"- {plain(one)}" for one in report.left_out_named)]
    speed = (
        f", {report.chunks_embedded / report.seconds:,.0f} chunks embedded a second" if report.chunks_embedded else ""
    )
    parts.append(f"{report.seconds:.1f} s for {handled:,} objects{speed}.")
    if changes:
        rows = [[key, stage, chunks or ""] for stage, key, chunks in changes]
        parts += ["## Objects", table(["key", "", "chunks"], rows)]
        if handled > len(changes):
            parts.append(f"… {handled:,} in all, including quarantined objects.")
    if quarantined:
        parts += ["## Quarantine", quarantine_table(quarantined)]
        if report.quarantined > len(quarantined):
            parts.append(f"… and {report.quarantined - len(quarantined):,} more.")
    parts += ["## Settings", table(["setting", "value"], list(settings.model_dump().items()))]
    return "\n\n".join(parts)


def _numbers(report: SyncReport, totals: dict[str, int]) -> list[str]:
    chunks = report.chunks_embedded + report.chunks_reused
    share = f" ({report.chunks_reused / chunks:.0%})" if chunks else ""
    objects = [
        ["new", f"{report.new:,}"],
        ["changed", f"{report.changed:,}"],
        ["deleted", f"{report.deleted:,}"],
        ["unchanged", f"{report.unchanged:,}"],
        ["in quarantine now", f"{report.quarantined:,}"],
        ["changed while being read (next sync)", f"{report.moved_on:,}"],
        ["left out (no row can hold them)", f"{report.left_out:,}"],
    ]
    of_chunks = [
        ["embedded", f"{report.chunks_embedded:,}"],
        ["vector reused", f"{report.chunks_reused:,}{share}"],
        ["deleted", f"{report.chunks_deleted:,}"],
        ["in the generation now", f"{totals['chunks']:,}"],
    ]
    return [table(["objects", ""], objects), table(["chunks", ""], of_chunks)]


def quarantine_table(quarantined: Sequence[dict[str, Any]]) -> str:
    """Return a table of the objects in quarantine: key, reason, attempts, and whether an older version answers."""
    rows = [[row["key"], row["reason"], row["attempts"], "yes" if row["indexed_etag"] else "no"] for row in quarantined]
    return table(["key", "reason", "attempts", "an older version answers"], rows)


def failures_markdown(collection: str, failed: Sequence[dict[str, Any]]) -> str:
    """Return the report of a sync that stopped because too many objects failed: the first of them, with reasons."""
    rows = [[row["key"], row["reason"]] for row in failed]
    return "\n\n".join(
        [
            f"# {inline(collection)}: stopped, too much failed",
            "So many objects failed that a part is probably down. They are not in quarantine. The next sync retries "
            "them.",
            table(["key", "reason"], rows),
        ]
    )


def deletions_markdown(collection: str, message: str, loss: Loss) -> str:
    """Return why a sync deleted nothing: the numbers, and the first objects that it would have deleted."""
    numbers = [("held", loss.held), ("would be deleted", loss.lost), ("listed in the bucket", loss.listed)]
    return "\n\n".join(
        [
            f"# {collection}: stopped, too much would be deleted",
            plain(message),
            table(["objects", "number"], [[name, f"{number:,}"] for name, number in numbers]),
            table(["would be deleted"], [[key] for key in loss.keys]),
        ]
    )


def findings(found: Findings) -> str:
    """Return the findings of an audit in a few words."""
    said = [f"{found.counts[kind]:,} {kind}" for kind in KINDS if found.counts[kind]]
    if found.fingerprint:
        said.append("wrong fingerprint")
    return ", ".join(said) or "consistent"


def audit_markdown(found: Findings, repaired: int) -> str:
    """Return an audit's report: the numbers, and a line for each inconsistent key."""
    verdict = "consistent" if found.consistent else "NOT consistent"
    parts = [
        f"# {inline(found.collection)}: {verdict}",
        f"{found.objects:,} objects and {found.chunks:,} chunks compared.",
    ]
    if found.left_out:
        said = "; ".join(plain(one) for one in found.left_out_named)
        parts.append(f"{found.left_out:,} objects in the bucket are left out, since no row can hold them: {said}.")
    if repaired:
        parts.append(f"{repaired:,} objects were repaired.")
    if found.fingerprint:
        parts.append(f"> {inline(found.fingerprint)}")
    parts.append(table(["finding", "objects"], [[kind, f"{number:,}"] for kind, number in found.counts.items()]))
    rows = [[kind, key, found.details.get(key, "")] for kind in KINDS for key in found.keys[kind]]
    if rows:
        parts += ["## Objects", table(["finding", "key", ""], rows[:AUDIT_SHOWN])]
    if len(rows) > AUDIT_SHOWN:
        parts.append(f"… and {len(rows) - AUDIT_SHOWN:,} more.")
    return "\n\n".join(parts)
