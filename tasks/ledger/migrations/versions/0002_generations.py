"""When each generation was ready, promoted and retired, and what it cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
TABLE = "lockstep_generations"


def upgrade() -> None:
    """Add the columns; of the generations that are there only their time is known."""
    for name in ("ready_at", "promoted_at", "retired_at"):
        op.add_column(TABLE, sa.Column(name, sa.BigInteger))
    for name in ("chunks_embedded", "chunks_reused"):
        op.add_column(TABLE, sa.Column(name, sa.Integer))
    op.add_column(TABLE, sa.Column("seconds", sa.Float))
    op.add_column(TABLE, sa.Column("gates", sa.JSON))
    # Every generation so far was live from its first sync on.
    op.execute(f"update {TABLE} set promoted_at = created_at, ready_at = created_at")


def downgrade() -> None:
    """Drop the columns."""
    for name in ("gates", "seconds", "chunks_reused", "chunks_embedded", "retired_at", "promoted_at", "ready_at"):
        op.drop_column(TABLE, name)
