"""Which bucket each generation holds, and under which mark."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("lockstep_generations", sa.Column("source", sa.JSON))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("lockstep_generations", "source")
