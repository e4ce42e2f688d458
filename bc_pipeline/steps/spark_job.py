"""Hand a batch to Spark: its driver runs as a process of Spark's own environment.

pyspark and Airflow's Spark provider cannot be installed together with Airflow's pins, and a
driver that fails must not take the task's process along. What the two sides say to each other
is one JSON document each way; there is nothing secret in it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.versions import VersionFiles
from bc_pipeline.errors import ConfigError, TransientError, error_of
from bc_pipeline.steps.batches import ScoresManifest
from bc_pipeline.steps.run import Origin, Room, Run, origin_of
from bc_pipeline.tables import PART_BYTES, Found, Place

_STOP_SECONDS = 20.0
# Of the calling process; they would lead the driver's Python to the caller's packages.
_NOT_HANDED_ON = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}


class SparkJob(Record, frozen=True, kw_only=True):
    """What the driver is told; the champion by name and digest, so that it cannot change.

    Attributes
    ----------
    inputs : tuple of Place
    root : str
        Path or URL of the problem's scores.
    part_bytes : int
        About how much of a CSV file one task reads.
    """

    problem: str
    version: str
    manifest_sha256: str
    master: str
    inputs: tuple[Place, ...]
    root: str
    interval_start: str | None
    as_of: str
    origin: Origin
    part_bytes: int = PART_BYTES


class SparkAnswer(Record, frozen=True, kw_only=True):
    """What the driver tells: where the scores stand and their manifest, or its error."""

    output: str = ""
    manifest: ScoresManifest | None = None
    error: dict[str, object] | None = None


def score_on_spark(
    room: Room, run: Run, champion: VersionFiles, found: list[Found]
) -> tuple[str, ScoresManifest]:
    """Score files on the cluster that the settings name; gives the folder and its manifest.

    Raises
    ------
    ConfigError
        Where Spark's environment is not there.
    TransientError
        Where the cluster does not answer or gives up.
    PipelineError
        As the driver met it.
    """
    settings = room.settings
    root = settings.spark_scores.rstrip("/") or str(room.store.scores.parent)
    job = SparkJob(
        problem=run.problem,
        version=champion.manifest.version,
        manifest_sha256=champion.manifest_sha256,
        master=settings.spark_master,
        inputs=tuple(each.place for each in found),
        root=f"{root}/{run.problem}",
        interval_start=run.interval_start,
        as_of=run.as_of,
        origin=origin_of(run),
    )
    answer = run_driver(settings.spark_interpreter, job)
    if answer.error is not None:
        raise error_of(answer.error)
    if answer.manifest is None:
        raise TransientError("The Spark driver told of no scores.", "Its log says more.")
    return answer.output, answer.manifest


def run_driver(python: Path, job: SparkJob) -> SparkAnswer:
    """Start the driver and wait for its answer; where this is interrupted, it is ended too.

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
    given = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    environment = {"PYSPARK_PYTHON": str(python)} | given | {"PYSPARK_DRIVER_PYTHON": str(python)}
    process = subprocess.Popen(
        [python, "-P", "-m", "bc_pipeline.steps.spark_driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        told, _ = process.communicate(msgspec.json.encode(job))
    except BaseException:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    try:
        return msgspec.json.decode(told, type=SparkAnswer)
    except msgspec.MsgspecError:
        raise TransientError(
            f"The Spark driver ended with code {process.returncode} and no answer.",
            "Its log stands above.",
        ) from None
