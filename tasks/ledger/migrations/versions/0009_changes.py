"""Keys that notifications named, since when work waits, when a generation last changed, and what it lost since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
BYTEWISE = sa.String(1024).with_variant(sa.String(1024, "C"), "postgresql")


def upgrade() -> None:
    """Add the table and the columns. For work that waits already it is not known since when."""
    op.create_table(
        "lockstep_changes",
        sa.Column("alias", sa.String(255), primary_key=True),
        sa.Column("key", BYTEWISE, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("named_at", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
    )
    op.create_index("ix_lockstep_changes", "lockstep_changes", ["alias", "since"])
    op.add_column("lockstep_objects", sa.Column("known_at", sa.BigInteger))
    op.add_column("lockstep_objects", sa.Column("asked_at", sa.BigInteger))
    op.add_column("lockstep_generations", sa.Column("changed_at", sa.BigInteger))
    op.add_column("lockstep_generations", sa.Column("written_ts", sa.BigInteger))
    op.add_column("lockstep_generations", sa.Column("lost", sa.Integer))


def downgrade() -> None:
    """Drop the table and the columns."""
    op.drop_column("lockstep_generations", "lost")
    op.drop_column("lockstep_generations", "written_ts")
    op.drop_column("lockstep_generations", "changed_at")
    op.drop_column("lockstep_objects", "asked_at")
    op.drop_column("lockstep_objects", "known_at")
    op.drop_index("ix_lockstep_changes", "lockstep_changes")
    op.drop_table("lockstep_changes")
