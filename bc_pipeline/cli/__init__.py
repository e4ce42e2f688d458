"""``bc-pipeline``: the workflow without Airflow, and operations."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    from bc_pipeline.cli.app import app

    app()
