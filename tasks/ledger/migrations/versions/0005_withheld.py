"""Since when a version of an object fails, and whether it is the bucket that does not hand it out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
TABLE = "lockstep_objects"


def upgrade() -> None:
    """Add the columns; of what fails already it is not known since when."""
    op.add_column(TABLE, sa.Column("failed_at", sa.BigInteger))
    op.add_column(TABLE, sa.Column("withheld", sa.Boolean))
    op.execute(f"update {TABLE} set withheld = true where reason like 'the bucket will not hand it out%'")


def downgrade() -> None:
    """Drop the columns."""
    for name in ("withheld", "failed_at"):
        op.drop_column(TABLE, name)
