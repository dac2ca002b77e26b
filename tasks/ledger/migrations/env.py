"""Run the ledger's migrations on the connection that the ledger passes in."""

from __future__ import annotations

from alembic import context

from tasks.ledger.tables import TABLES

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES,
    version_table="lockstep_version",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
