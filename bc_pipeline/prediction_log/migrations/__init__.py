"""Alembic's scripts: each release of the package brings the database's tables up to itself."""
