"""When a generation was last in step with the bucket, and when an audit last found that it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns. For generations of before it is not known until their next sync and audit."""
    op.add_column("lockstep_generations", sa.Column("synced_at", sa.BigInteger))
    op.add_column("lockstep_generations", sa.Column("audited_at", sa.BigInteger))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("lockstep_generations", "audited_at")
    op.drop_column("lockstep_generations", "synced_at")
