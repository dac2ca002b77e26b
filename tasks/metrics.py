"""The metrics that Lockstep keeps, by name: this is the only place that knows the names.

Seconds are seconds, counters end in ``_total``. `lockstep serve` shows them at ``/metrics``; in other processes nobody
asks, and keeping them costs nothing to speak of.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
REGISTRY = CollectorRegistry()
"""Holds these alone: Prefect keeps metrics of its own in the process' default one."""
SIZES = (1, 2, 4, 8, 16, 32, 64)

HTTP_SECONDS = Histogram(
    "lockstep_http_request_seconds", "Time to the end of an answer, by route and status.", ("route", "status"),
    buckets=SLOW, registry=REGISTRY,
)  # fmt: skip
STAGE_SECONDS = Histogram(
    "lockstep_stage_seconds", "Time of a stage of a question: embed, search, generate, check …", ("stage",),
    buckets=SLOW, registry=REGISTRY,
)  # fmt: skip
FIRST_CLAIM_SECONDS = Histogram(
    "lockstep_first_claim_seconds", "Time from a question to its first checked claim.", buckets=SLOW, registry=REGISTRY
)
EMBED_BATCH_SIZE = Histogram(
    "lockstep_embed_batch_size", "Questions in one forward pass.", buckets=SIZES, registry=REGISTRY
)
EMBED_WAIT_SECONDS = Histogram(
    "lockstep_embed_wait_seconds",
    "Time that a question waits for the model to be free.",
    buckets=FAST,
    registry=REGISTRY,
)
ANSWERS = Counter("lockstep_answers_total", "Answers by how they were made.", ("mode", "pipeline"), registry=REGISTRY)
CACHED = Counter(
    "lockstep_answers_cached_total", "Answers written for an earlier question.", ("pipeline",), registry=REGISTRY
)
CLAIMS = Counter(
    "lockstep_claims_total", "Claims of answers, by whether a quote supports them.", ("verified",), registry=REGISTRY
)
CITATIONS = Counter(
    "lockstep_citations_total", "Citations, by whether the quote stands there.", ("verified",), registry=REGISTRY
)
MCP_TOOL_SECONDS = Histogram(
    "lockstep_mcp_tool_seconds", "Time of a call of an MCP tool, by tool and outcome: ok, refused or failed.",
    ("tool", "outcome"), buckets=SLOW, registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT = Gauge("lockstep_in_flight", "Requests that are being answered.", ("kind",), registry=REGISTRY)
REJECTED = Counter("lockstep_rejected_total", "Requests that were refused, by why.", ("reason",), registry=REGISTRY)
UNCOUNTED = Counter(
    "lockstep_uncounted_requests_total", "Requests that no rate limit counted, as Redis was away.", registry=REGISTRY
)
RECORDS_LOST = Counter(
    "lockstep_records_lost_total",
    "Answers that were not recorded, as the ledger was away.",
    registry=REGISTRY,
)
GUARDED = Counter(
    "lockstep_guarded_total",
    "What guards did: masked, refused, withheld, or let pass unchecked.",
    ("guard", "outcome"),
    registry=REGISTRY,
)
FEEDBACK = Counter("lockstep_feedback_total", "Verdicts on answers.", ("verdict",), registry=REGISTRY)
NOTIFICATIONS = Counter(
    "lockstep_notifications_total",
    "Notifications of S3 servers that were taken in, by outcome: recorded, nothing (to do) or unreadable.",
    ("receiver", "outcome"),
    registry=REGISTRY,
)
GENERATION = Gauge(
    "lockstep_generation_info", "1 for the generation that is live.", ("pipeline", "generation"), registry=REGISTRY
)
OBJECTS = Gauge("lockstep_objects", "Objects of an index, by state.", ("pipeline", "state"), registry=REGISTRY)
CLEAN_AUDIT = Gauge(
    "lockstep_last_clean_audit_timestamp_seconds", "When an audit last found no difference, in seconds since 1970.",
    ("pipeline",), registry=REGISTRY,
)  # fmt: skip
INDEX_LAG_SECONDS = Gauge(
    "lockstep_index_lag_seconds", "Age of the oldest change of the bucket that is known and not answerable, else 0.",
    ("pipeline",), registry=REGISTRY,
)  # fmt: skip
LISTED_AGE_SECONDS = Gauge(
    "lockstep_index_listed_age_seconds", "Age of the last whole listing of the bucket that was worked off.",
    ("pipeline",), registry=REGISTRY,
)  # fmt: skip
