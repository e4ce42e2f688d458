"""Submit a batch to Spark: the driver runs as a process in Spark's own environment.

pyspark and Airflow's Spark provider cannot be installed together with Airflow's pins, and a
failing driver must not end the task's process. The two processes exchange one JSON document
each way, without secrets.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.errors import ConfigError, TransientError, error_from_dict
from bc_pipeline.scoring.batch_plan import BatchJob
from bc_pipeline.scoring.scores_manifest import ScoresManifest
from bc_pipeline.settings import Settings

_TERMINATE_SECONDS = 20.0
# With these the driver's Python would import the packages of the calling process.
_REMOVED_VARIABLES = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}


class SparkResult(Document, frozen=True, kw_only=True):
    """The driver's answer: the output folder and its manifest, or the error."""

    output: str = ""
    manifest: ScoresManifest | None = None
    error: dict[str, object] | None = None


def submit_to_spark(settings: Settings, job: BatchJob) -> tuple[str, ScoresManifest]:
    """Score files on the configured cluster; returns the output folder and its manifest.

    Raises
    ------
    ConfigError
        Where Spark's environment does not exist.
    TransientError
        Where the cluster does not answer or fails.
    PipelineError
        Any other error of the driver.
    """
    result = run_driver(settings.spark_interpreter, job)
    if result.error is not None:
        raise error_from_dict(result.error)
    if result.manifest is None:
        raise TransientError("The Spark driver reported no scores.", "Its log says more.")
    return result.output, result.manifest


def run_driver(python: Path, job: BatchJob) -> SparkResult:
    """Start the driver and wait for its answer; an interrupt here ends the driver too.

    Raises
    ------
    ConfigError, TransientError
    """
    if not python.is_file():
        raise ConfigError(
            f"There is no Python with pyspark at {python}.",
            "Run `make .venv/spark/ready`, or let BC_SPARK_PYTHON name one.",
            setting="BC_SPARK_PYTHON",
        )
    inherited = {
        name: value for name, value in os.environ.items() if name not in _REMOVED_VARIABLES
    }
    environment = (
        {"PYSPARK_PYTHON": str(python)} | inherited | {"PYSPARK_DRIVER_PYTHON": str(python)}
    )
    process = subprocess.Popen(
        [python, "-P", "-m", "bc_pipeline.scoring.spark_driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        answer, _ = process.communicate(msgspec.json.encode(job))
    except BaseException:
        process.terminate()
        try:
            process.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    try:
        return msgspec.json.decode(answer, type=SparkResult)
    except msgspec.MsgspecError:
        raise TransientError(
            f"The Spark driver ended with code {process.returncode} and no answer.",
            "Its log is above.",
        ) from None
