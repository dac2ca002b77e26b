"""Prove that the index equals the bucket, or list the differences and repair them.

    look ──consistent──▶ report
      └─ look again while nobody writes ──▶ record ──▶ sync ──▶ look again ──▶ report

The first look does not stop writers, so what is being written meanwhile may look wrong; only the second one
counts. Repairing is recording what is wrong as work in the ledger and syncing: whatever is wrong with an
object, a sync writes it anew and deletes what does not belong to it.
"""

from __future__ import annotations

from dataclasses import asdict

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.pipeline import Pipeline
from blocks.settings import Settings
from flows.prefect_runs import rename_run
from flows.sync import sync
from tasks.errors import InconsistentError
from tasks.generations.claims import check_source
from tasks.generations.deletion_limit import unasked
from tasks.indexing.audit import Findings, look, record_findings
from tasks.indexing.report import audit_markdown, findings
from tasks.pipelines import load_pipeline
from tasks.resources import Consent, connect


@flow(name="audit", flow_run_name="audit {pipeline}")
def audit(
    pipeline: str = "docs",
    repair: bool = False,
    sync_first: bool = False,
    allow_deletions: bool = False,
    accept_source: bool = False,
) -> Findings:
    """Compare bucket, ledger and Milvus chunk by chunk and return what was found.

    ``repair`` mends what is wrong and audits again; ``sync_first`` brings the index in step before, so that
    only what a sync does not see counts as wrong; ``allow_deletions`` and ``accept_source`` are those of a sync.
    Raises ``InconsistentError`` when something is (still) wrong.
    """
    logger, consent = get_run_logger(), Consent(allow_deletions, accept_source)
    if sync_first:
        sync(pipeline, **asdict(consent))
    block = load_pipeline(pipeline)
    found, doubted = examine(block, repair, consent)
    repaired = 0
    while doubted:
        sync(pipeline, **asdict(consent))
        repaired += doubted
        before = sum(found.counts.values())
        found, doubted = examine(block, repair, consent)
        if sum(found.counts.values()) >= before:
            break  # a sync does not mend it: the fingerprint, or a bucket that changes all the time
    rename_run(f"audit {found.collection}: {findings(found)}")
    create_markdown_artifact(
        audit_markdown(found, repaired), key=f"audit-{pipeline}", description=f"Is the index of {pipeline} right?"
    )
    logger.info(
        "%s: %s (%s objects, %s chunks)", found.collection, findings(found), f"{found.objects:,}", f"{found.chunks:,}"
    )
    if not found.consistent:
        raise InconsistentError(
            f"{found.collection} is not what the bucket says: {findings(found)}. "
            f"{advice(found, repair, block.settings)}",
            found,
        )
    return found


def advice(found: Findings, repaired: bool, settings: Settings) -> str:
    """Return what to do about findings."""
    if repaired:
        return "A sync does not mend it."
    if found.counts["orphaned"] > unasked(found.answering, settings):
        return (
            "Most of it may be gone from the bucket because bucket or prefix are not the right ones: look there first. "
            "If so much is meant to go, `lockstep audit --repair --allow-deletions` mends it."
        )
    return "`lockstep audit --repair` mends it."


def examine(block: Pipeline, repair: bool, consent: Consent) -> tuple[Findings, int]:
    """Audit; if something seems wrong, audit again while nobody writes.

    Returns what was found and, with ``repair``, how many objects were recorded for the next sync to mend.
    """
    logger = get_run_logger()
    with connect(block, flow_run.id or "", consent) as resources:
        collection = resources.store.resolve()
        check_source(resources, collection)
        found = look(resources, collection)
        if found.consistent:
            return found, 0
        logger.info("%s: %s; looking again while nothing is written", collection, findings(found))
        wait = block.settings.wait_for_writer_seconds
        with resources.writing(collection, f"an audit ({flow_run.name})", wait):
            found = look(resources, collection)
            return found, record_findings(resources, collection, found) if repair and not found.consistent else 0
