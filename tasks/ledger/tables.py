"""The ledger's tables, as the newest migration leaves them."""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()
NEWEST = "0006"
"""The migration that these tables are as of."""

BYTEWISE = sa.String(1024).with_variant(sa.String(1024, "C"), "postgresql")
"""Keys compare by bytes on every database."""

GENERATIONS = sa.Table(
    "lockstep_generations",
    TABLES,
    sa.Column("collection", sa.String(255), primary_key=True),
    sa.Column("alias", sa.String(255), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("ingredients", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # When it held what the bucket holds, when the alias came to it, and when the alias left it (ms since 1970).
    sa.Column("ready_at", sa.BigInteger),
    sa.Column("promoted_at", sa.BigInteger),
    sa.Column("retired_at", sa.BigInteger),
    # What building it cost, and how it did at the gates.
    sa.Column("chunks_embedded", sa.Integer),
    sa.Column("chunks_reused", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("gates", sa.JSON),
    # How it is searched, what it found for the golden questions, and who promoted it against its gates, and why.
    sa.Column("search_params", sa.JSON),
    sa.Column("quality", sa.JSON),
    sa.Column("forced", sa.JSON),
    # Which bucket it holds, as `tasks/generations/claims.py` says it.
    sa.Column("source", sa.JSON),
)

OBJECTS = sa.Table(
    "lockstep_objects",
    TABLES,
    sa.Column("collection", sa.String(255), primary_key=True),
    sa.Column("key", BYTEWISE, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    # The version wanted: what the bucket listed last.
    sa.Column("etag", sa.String(255), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("last_modified", sa.BigInteger, nullable=False),
    # The version whose chunks Milvus confirmed, if any, how many they are, and the hash of their ids.
    sa.Column("indexed_etag", sa.String(255)),
    sa.Column("chunks", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(16)),
    # Quarantine: why, how often tried, since when (ms since 1970).
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("since", sa.BigInteger),
    # When this version failed first, and whether it last did because the bucket does not hand it out.
    sa.Column("failed_at", sa.BigInteger),
    sa.Column("withheld", sa.Boolean),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("flow_run_id", sa.String(64), nullable=False),
    sa.Index("ix_lockstep_objects_state", "collection", "state", "key"),
    sa.Index("ix_lockstep_objects_etag", "collection", "state", "etag"),
)

WRITERS = sa.Table(
    "lockstep_writers",
    TABLES,
    sa.Column("collection", sa.String(255), primary_key=True),
    sa.Column("holder", sa.String(64), nullable=False),
    sa.Column("described", sa.String(255), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

CANARIES = sa.Table(
    "lockstep_canaries",
    TABLES,
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("collection", sa.String(255), nullable=False),
    sa.Column("live", sa.String(255), nullable=False),
    # Shares of the questions, in percent, one step after the other; the step it is in, from 0, and since when.
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("hold_seconds", sa.Float, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
)

ASKED = sa.Table(
    "lockstep_asked",
    TABLES,
    # A question asked while a canary goes on: how it fared, not what it was.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("alias", sa.String(255), nullable=False),
    sa.Column("collection", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("best", sa.Float),
    sa.Column("abstained", sa.Boolean, nullable=False),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Index("ix_lockstep_asked", "alias", "collection", "at"),
)

KEYS = sa.Table(
    "lockstep_keys",
    TABLES,
    # A key of the service: what is kept of its secret is a hash, which is of no use to who reads it.
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    # Whose objects it may see ("" where pipelines have no tenants), which pipelines ([] for all), and what it may do.
    sa.Column("tenant", sa.String(1024), nullable=False),
    sa.Column("pipelines", sa.JSON, nullable=False),
    sa.Column("rights", sa.JSON, nullable=False),
    # ms since 1970.
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("used_at", sa.BigInteger),
)

ANSWERS = sa.Table(
    "lockstep_answers",
    TABLES,
    # A question that the service answered. Its text is kept only where a setting says so.
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("pipeline", sa.String(255), nullable=False),
    sa.Column("tenant", sa.String(1024), nullable=False),
    sa.Column("key_id", sa.String(16), nullable=False),
    sa.Column("route", sa.String(64), nullable=False),
    sa.Column("question_hash", sa.String(64), nullable=False),
    sa.Column("question", sa.Text),
    sa.Column("collection", sa.String(255), nullable=False),
    sa.Column("chunk_ids", sa.JSON, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("claims", sa.Integer, nullable=False),
    sa.Column("unverified", sa.Integer, nullable=False),
    sa.Column("tokens", sa.JSON, nullable=False),
    sa.Column("seconds", sa.JSON, nullable=False),
    # What somebody thought of it: up or down, why, and when.
    sa.Column("verdict", sa.String(8)),
    sa.Column("reason", sa.Text),
    sa.Column("judged_at", sa.BigInteger),
    sa.Index("ix_lockstep_answers", "pipeline", "at"),
)
