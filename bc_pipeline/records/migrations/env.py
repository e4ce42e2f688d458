"""Run by Alembic: migrate over the connection that `bc_pipeline.records.database` hands over."""

from __future__ import annotations

from alembic import context

from bc_pipeline.records.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
