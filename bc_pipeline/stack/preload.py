"""Import heavy libraries once, in the process that Airflow's tasks fork from.

A task then starts in a fraction of a second instead of several seconds. Only parents of tasks
do this: the scheduler with a local executor, and each Celery worker.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from bc_pipeline.artifacts.files import write_atomic

# These libraries start no threads when imported: a fork must not inherit a held lock.
LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.calibration",
    "onnx",
    "onnxruntime",
    "matplotlib.figure",
    "great_expectations",
    "mlflow.sklearn",
)

_LOCAL_SETTINGS = """\
from bc_pipeline.stack.preload import preload

preload()
"""


def preload() -> None:
    """Import the libraries if tasks will fork from this process."""
    uses_celery = "Celery" in os.environ.get("AIRFLOW__CORE__EXECUTOR", "")
    if ("scheduler" in sys.argv and not uses_celery) or sys.argv[1:3] == ["celery", "worker"]:
        for name in LIBRARIES:
            importlib.import_module(name)


def install(airflow_home: Path) -> None:
    """Make Airflow call `preload` when it reads its local settings."""
    write_atomic(airflow_home / "config" / "airflow_local_settings.py", _LOCAL_SETTINGS.encode())
