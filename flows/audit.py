"""Check that the index equals the bucket, report the differences, and repair them.

    look ──consistent──▶ report
      └─ look again while nobody writes ──▶ record ──▶ sync ──▶ look again ──▶ report

The first look does not stop writers, so objects that are being written may look wrong. Only the second look
counts. A repair records the wrong objects as work in the ledger and runs a sync. The sync writes each such object
anew and deletes the chunks that do not belong to it.
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
from tasks.ledger.database import now
from tasks.ledger.generations import record_clean_audit
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
    """Compare bucket, ledger and Milvus chunk by chunk and return the findings.

    ``repair`` repairs the differences and audits again. ``sync_first`` runs a sync before, so that only differences
    count that a sync does not see. ``allow_deletions`` and ``accept_source`` are those of a sync. Raises
    ``InconsistentError`` if differences remain.
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
            break  # a sync cannot repair it: a wrong fingerprint, or a bucket that changes all the time
    rename_run(f"audit {found.collection}: {findings(found)}")
    create_markdown_artifact(
        audit_markdown(found, repaired), key=f"audit-{pipeline}", description=f"Audit of the index of {pipeline}"
    )
    logger.info(
        "%s: %s (%s objects, %s chunks)", found.collection, findings(found), f"{found.objects:,}", f"{found.chunks:,}"
    )
    if not found.consistent:
        raise InconsistentError(
            f"{found.collection} does not agree with the bucket: {findings(found)}. "
            f"{advice(found, repair, block.settings)}",
            found,
        )
    return found


def advice(found: Findings, repaired: bool, settings: Settings) -> str:
    """Return advice on the findings."""
    if repaired:
        return "A sync does not repair it."
    if found.counts["orphaned"] > unasked(found.answering, settings):
        return (
            "So many objects are missing from the bucket that bucket or prefix may be wrong. Check them first. If "
            "these objects are meant to be deleted, `lockstep audit --repair --allow-deletions` repairs it."
        )
    return "`lockstep audit --repair` repairs it."


def examine(block: Pipeline, repair: bool, consent: Consent) -> tuple[Findings, int]:
    """Audit, and if something seems wrong, audit again while nobody writes.

    Returns the findings and, with ``repair``, the number of objects recorded for the next sync to repair.
    """
    logger = get_run_logger()
    with connect(block, flow_run.id or "", consent) as resources:
        collection = resources.store.resolve()
        check_source(resources, collection)
        began, found = now(), look(resources, collection)
        if found.consistent:
            record_clean_audit(resources.ledger, collection, began)
            return found, 0
        logger.info("%s: %s; auditing again while nobody writes", collection, findings(found))
        wait = block.settings.wait_for_writer_seconds
        with resources.writing(collection, f"an audit ({flow_run.name})", wait):
            began, found = now(), look(resources, collection)
            if found.consistent:
                record_clean_audit(resources.ledger, collection, began)
            return found, record_findings(resources, collection, found) if repair and not found.consistent else 0
