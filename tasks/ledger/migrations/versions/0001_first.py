"""The first schema: generations, objects, and who is writing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "lockstep_generations",
        sa.Column("collection", sa.String(255), primary_key=True),
        sa.Column("alias", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("ingredients", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lockstep_objects",
        sa.Column("collection", sa.String(255), primary_key=True),
        sa.Column(
            "key",
            sa.String(1024, collation=None).with_variant(sa.String(1024, "C"), "postgresql"),
            primary_key=True,
        ),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("last_modified", sa.BigInteger, nullable=False),
        sa.Column("indexed_etag", sa.String(255)),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(16)),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("flow_run_id", sa.String(64), nullable=False),
    )
    op.create_index("ix_lockstep_objects_state", "lockstep_objects", ["collection", "state", "key"])
    op.create_index("ix_lockstep_objects_etag", "lockstep_objects", ["collection", "state", "etag"])
    op.create_table(
        "lockstep_writers",
        sa.Column("collection", sa.String(255), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("described", sa.String(255), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the three tables."""
    for name in ("lockstep_writers", "lockstep_objects", "lockstep_generations"):
        op.drop_table(name)
