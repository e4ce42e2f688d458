"""Batch scoring on a Spark cluster: the only file that imports pyspark.

Executors read, validate, score and write parts of files with the code that one machine uses
(`score_part`). The driver receives reports, never rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.errors import TransientError
from bc_pipeline.scoring.executor_tasks import (
    FileScan,
    FileTask,
    PartReport,
    PartTask,
    scan_file,
    score_part,
)
from bc_pipeline.scoring.model_package import ModelPackage
from bc_pipeline.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa

_SCAN_SCHEMA = "report binary"
_SCORE_SCHEMA = "file int, id long, report binary"
_SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
_MAX_SHUFFLE_PARTITIONS = 200
_MESSAGE_LENGTH = 300


class SparkCluster:
    """A connection to a Spark cluster; a context manager.

    Parameters
    ----------
    master : str
        ``spark://host:7077``, ``yarn``, ``k8s://https://host:port`` or ``local[2]``; all other
        settings of Spark are in ``spark-defaults.conf`` of ``SPARK_CONF_DIR``.
    title : str
        Name of the application on Spark's pages.

    Raises
    ------
    TransientError
        Here and in the methods, where Spark fails.
    """

    def __init__(self, master: str, title: str) -> None:
        from pyspark.sql import SparkSession

        # Spark's progress bar would be written to the task's log.
        builder = SparkSession.builder.master(master).appName(title)
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        try:
            self._session = builder.getOrCreate()
        except Exception as error:
            raise _spark_failed(f"Spark at {master} does not answer", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.stop()

    def scan(self, tasks: Sequence[FileTask], package: ModelPackage) -> list[FileScan]:
        """Scan files, in the order of the tasks."""
        scan = partial(_scan, self._session.sparkContext.broadcast(package))
        rows = self._run(self._distribute(tasks).mapInArrow(scan, _SCAN_SCHEMA).collect)
        scans = [msgspec.json.decode(row.report, type=FileScan) for row in rows]
        return sorted(scans, key=lambda scan: scan.file)

    def score(
        self,
        tasks: Sequence[PartTask],
        package: ModelPackage,
        new_counter: Callable[[], SuiteCounter],
        repeated: Mapping[int, np.ndarray] | None = None,
    ) -> tuple[list[PartReport], dict[int, np.ndarray]]:
        """Score parts.

        Parameters
        ----------
        new_counter : callable
            Makes the counter of one part's findings; it is pickled.
        repeated : dict of int to array of int64, optional
            For each file, sorted hashes of ids whose rows are rejected.

        Returns
        -------
        list of PartReport
            By file and part.
        dict of int to array of int64
            For each file with repeated ids, their hashes, sorted: of those whose task returns ids.
        """
        from pyspark.sql import functions

        if not tasks:
            return [], {}
        # Few ids need no more partitions than there are tasks; each one costs time.
        self._session.conf.set(_SHUFFLE_PARTITIONS, str(min(len(tasks), _MAX_SHUFFLE_PARTITIONS)))
        broadcast = self._session.sparkContext.broadcast((package, repeated or {}))
        score = partial(_score, broadcast, new_counter)
        rows = self._distribute(tasks).mapInArrow(score, _SCORE_SCHEMA)
        # Reports pass through the shuffle of the ids: one pass over the rows is enough, and
        # the report of a part comes out only when the part is complete.
        counted = (
            rows.groupBy("file", "id", "report")
            .agg(functions.count("*").alias("row_count"))
            .where("id is null or row_count > 1")
            .select("file", "id", "report")
        )
        # Columns of numbers: some 16 bytes for a repeated id.
        table = self._run(counted.toArrow)
        reports = [
            msgspec.json.decode(report, type=PartReport)
            for report in table["report"].drop_null().to_pylist()
        ]
        named = table["id"].is_valid()
        files = table["file"].filter(named).to_numpy()
        ids = table["id"].filter(named).to_numpy()
        found = {int(file): np.sort(ids[files == file]) for file in np.unique(files)}
        return sorted(reports, key=lambda report: (report.file, report.part)), found

    def _distribute(self, tasks: Sequence[msgspec.Struct]) -> Any:
        """One row and one partition for each task."""
        rows = [(msgspec.json.encode(task),) for task in tasks]
        distributed = self._session.sparkContext.parallelize(rows, len(rows))
        return self._session.createDataFrame(distributed, "task binary")

    def _run(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            raise _spark_failed("The Spark job failed", error) from error


def _scan(broadcast: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    settings = load_settings()
    for data in _read_tasks(batches):
        report = scan_file(settings, msgspec.json.decode(data, type=FileTask), broadcast.value)
        yield pa.record_batch({"report": pa.array([msgspec.json.encode(report)], pa.binary())})


def _score(
    broadcast: Any,
    new_counter: Callable[[], SuiteCounter],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    settings = load_settings()
    package, repeated = broadcast.value
    for data in _read_tasks(batches):
        task = msgspec.json.decode(data, type=PartTask)
        for result in score_part(settings, task, package, new_counter, repeated.get(task.file)):
            if isinstance(result, PartReport):
                ids, report = pa.nulls(1, pa.int64()), msgspec.json.encode(result)
            else:
                ids, report = pa.array(result), None
            yield pa.record_batch(
                {
                    "file": pa.array(np.full(len(ids), task.file, np.int32)),
                    "id": ids,
                    "report": pa.array([report] * len(ids), pa.binary()),
                }
            )


def _read_tasks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    for batch in batches:
        yield from batch.column("task").to_pylist()


def _spark_failed(what: str, error: Exception) -> TransientError:
    # The first line has the reason; stack traces of every machine follow.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return TransientError(
        f"{what}: {lines[0][:_MESSAGE_LENGTH]}.",
        "The log of this process and Spark's pages say more.",
    )
