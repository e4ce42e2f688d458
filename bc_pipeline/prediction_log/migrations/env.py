"""Run by Alembic: migrate over the connection that `prediction_log.database` passes in."""

from __future__ import annotations

from alembic import context

from bc_pipeline.prediction_log.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
