"""How each generation is searched and what it found; canaries, and the questions asked while one goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
GENERATIONS = "lockstep_generations"
ADDED = ("search_params", "quality", "forced")


def upgrade() -> None:
    """Add the columns and the tables."""
    for name in ADDED:
        op.add_column(GENERATIONS, sa.Column(name, sa.JSON))
    op.create_table(
        "lockstep_canaries",
        sa.Column("alias", sa.String(255), primary_key=True),
        sa.Column("collection", sa.String(255), nullable=False),
        sa.Column("live", sa.String(255), nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("hold_seconds", sa.Float, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lockstep_asked",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("alias", sa.String(255), nullable=False),
        sa.Column("collection", sa.String(255), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("best", sa.Float),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("failed", sa.Boolean, nullable=False),
    )
    op.create_index("ix_lockstep_asked", "lockstep_asked", ["alias", "collection", "at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("lockstep_asked")
    op.drop_table("lockstep_canaries")
    for name in ADDED:
        op.drop_column(GENERATIONS, name)
