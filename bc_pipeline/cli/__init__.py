"""``bc-pipeline``: the workflow without Airflow, and operations."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    try:
        from bc_pipeline.cli.app import app
        from bc_pipeline.cli.failures import open_closed_streams
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    open_closed_streams()
    app()
