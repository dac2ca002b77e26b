"""Keys of the service, and what it answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "lockstep_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("tenant", sa.String(1024), nullable=False),
        sa.Column("pipelines", sa.JSON, nullable=False),
        sa.Column("rights", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_table(
        "lockstep_answers",
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
        sa.Column("verdict", sa.String(8)),
        sa.Column("reason", sa.Text),
        sa.Column("judged_at", sa.BigInteger),
    )
    op.create_index("ix_lockstep_answers", "lockstep_answers", ["pipeline", "at"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("lockstep_answers")
    op.drop_table("lockstep_keys")
