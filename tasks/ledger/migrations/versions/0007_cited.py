"""Which objects an answer cited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column. Answers of before have none: what they cited is not known."""
    op.add_column("lockstep_answers", sa.Column("cited", sa.JSON))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("lockstep_answers", "cited")
