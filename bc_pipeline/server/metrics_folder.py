"""The folder through which workers share their metrics, as prometheus_client expects it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def create_folder() -> str:
    return tempfile.mkdtemp(prefix="bc-metrics-")


def forget_worker(folder: str, worker: str) -> None:
    """Remove the gauges of a worker that ended; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    # The library has no annotations and asks for a process id, which may be any name.
    mark_dead: Callable[[str, str], None] = mark_process_dead
    mark_dead(worker, folder)


def remove_folder() -> None:
    """Remove the folder that this process inherited, if any."""
    if folder := os.environ.get(VARIABLE):
        shutil.rmtree(folder, ignore_errors=True)
