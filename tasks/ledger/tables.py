"""The ledger's tables after the newest migration."""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()
NEWEST = "0009"
"""The migration that leads to these tables."""

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
    # When it first held the whole bucket, when the alias moved to it, and when the alias left it (ms since 1970).
    sa.Column("ready_at", sa.BigInteger),
    sa.Column("promoted_at", sa.BigInteger),
    sa.Column("retired_at", sa.BigInteger),
    # The cost of building it, and the results of its gates.
    sa.Column("chunks_embedded", sa.Integer),
    sa.Column("chunks_reused", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("gates", sa.JSON),
    # Its search parameters, its metrics on the golden questions, and who promoted it despite a failed gate, and why.
    sa.Column("search_params", sa.JSON),
    sa.Column("quality", sa.JSON),
    sa.Column("forced", sa.JSON),
    # The bucket that it holds, as `tasks/generations/claims.py` writes it.
    sa.Column("source", sa.JSON),
    # When the last sync that ended well began to list the bucket, and when the last audit that found no difference
    # began. None for what was recorded by earlier versions.
    sa.Column("synced_at", sa.BigInteger),
    sa.Column("audited_at", sa.BigInteger),
    # When a writer last recorded a change of what it answers, by the database's clock, and Milvus' own timestamp of it.
    sa.Column("changed_at", sa.BigInteger),
    sa.Column("written_ts", sa.BigInteger),
    # Objects that syncs of keys deleted for good since the last whole listing. None is 0.
    sa.Column("lost", sa.Integer),
)

OBJECTS = sa.Table(
    "lockstep_objects",
    TABLES,
    sa.Column("collection", sa.String(255), primary_key=True),
    sa.Column("key", BYTEWISE, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    # The wanted version: the one that the bucket listed last.
    sa.Column("etag", sa.String(255), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("last_modified", sa.BigInteger, nullable=False),
    # The version whose chunks Milvus confirmed, if any, their number, and the hash of their ids.
    sa.Column("indexed_etag", sa.String(255)),
    sa.Column("chunks", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(16)),
    # Quarantine: the reason, the number of attempts, and the start (ms since 1970).
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("since", sa.BigInteger),
    # When this version first failed, and whether it last failed because the bucket did not hand it out.
    sa.Column("failed_at", sa.BigInteger),
    sa.Column("withheld", sa.Boolean),
    # Since when there is work for it that is not done, by the database's clock. None for work of earlier versions.
    sa.Column("known_at", sa.BigInteger),
    # When a sync of keys recorded the wanted version, by the database's clock. A listing may be older.
    sa.Column("asked_at", sa.BigInteger),
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

CHANGES = sa.Table(
    "lockstep_changes",
    TABLES,
    # A key of the bucket that a notification named, and that no sync has looked at since.
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("key", BYTEWISE, primary_key=True),
    # When it was first and last named, by the database's clock (ms since 1970), and how often: a name that comes while
    # a sync looks at the key keeps the row.
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("named_at", sa.BigInteger, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Index("ix_lockstep_changes", "alias", "since"),
)

CANARIES = sa.Table(
    "lockstep_canaries",
    TABLES,
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("collection", sa.String(255), nullable=False),
    sa.Column("live", sa.String(255), nullable=False),
    # The steps as shares of the questions in percent, the index of the current step, from 0, and its start.
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("hold_seconds", sa.Float, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
)

ASKED = sa.Table(
    "lockstep_asked",
    TABLES,
    # A question asked during a canary: its outcome, not its text.
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
    # The keys of the objects that verified citations name, in their order. None for answers of earlier versions.
    sa.Column("cited", sa.JSON),
    sa.Index("ix_lockstep_answers", "pipeline", "at"),
)


def starts_with(start: str) -> sa.ColumnElement[bool]:
    """Return the condition that an object's key starts with a text. LIKE ignores case on SQLite, this does not."""
    return sa.func.substr(OBJECTS.c.key, 1, len(start)) == start if start else sa.true()
