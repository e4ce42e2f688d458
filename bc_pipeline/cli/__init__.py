"""``bc-pipeline``: the workflow without Airflow, and operations."""

from __future__ import annotations

import gc
import os

# Importing makes several hundred thousand objects and hardly any garbage: at Python's own 700, the
# collector goes through them again and again, for a sixth of the start.
_COLLECTED_OBJECTS = 50_000


def main() -> None:
    """Entry point of the console script."""
    gc.set_threshold(_COLLECTED_OBJECTS)
    # To look for some, Pydantic reads the metadata of every library that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from bc_pipeline.cli.app import app
        from bc_pipeline.cli.failures import open_closed_streams
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    open_closed_streams()
    app()
