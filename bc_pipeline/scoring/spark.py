"""Batch scoring on a Spark cluster: the only file that imports pyspark.

Spark spreads parts of files over its executors and brings together what has to be; rows are
read, judged, scored and written by the code that one machine uses (`score_part`). No row
comes to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from bc_pipeline.errors import TransientError
from bc_pipeline.scoring.parts import (
    Count,
    FileScan,
    FileTask,
    PartReport,
    PartTask,
    Shipment,
    scan_file,
    score_part,
)

if TYPE_CHECKING:
    import pyarrow as pa

_SCANNED = "report binary"
_SCORED = "file int, name string, report binary"
_SHUFFLE = "spark.sql.shuffle.partitions"
_MOST_SHUFFLED = 200
_SHOWN = 300


class Cluster:
    """A connection to a Spark cluster; a context manager.

    Parameters
    ----------
    master : str
        ``spark://host:7077``, ``yarn``, ``k8s://https://host:port`` or ``local[2]``; all else
        that Spark wants to know stands in ``spark-defaults.conf`` of ``SPARK_CONF_DIR``.
    title : str
        What Spark's pages call the application.

    Raises
    ------
    TransientError
        Here and in the methods, where Spark gives up.
    """

    def __init__(self, master: str, title: str) -> None:
        from pyspark.sql import SparkSession

        # Spark would add a bar to the log of the task.
        builder = SparkSession.builder.master(master).appName(title)
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        try:
            self._session = builder.getOrCreate()
        except Exception as error:
            raise _gave_up(f"Spark at {master} does not answer", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.stop()

    def scan(self, tasks: Sequence[FileTask], shipment: Shipment) -> list[FileScan]:
        """Scan files, in the order of the tasks."""
        work = partial(_scan, self._session.sparkContext.broadcast(shipment))
        rows = self._collected(self._spread(tasks).mapInArrow(work, _SCANNED))
        found = [msgspec.json.decode(row.report, type=FileScan) for row in rows]
        return sorted(found, key=lambda scan: scan.file)

    def score(
        self, tasks: Sequence[PartTask], shipment: Shipment, new_count: Callable[[], Count]
    ) -> tuple[list[PartReport], dict[int, int]]:
        """Score parts.

        Parameters
        ----------
        new_count : callable
            Makes what counts the suite's findings in one part; it is pickled.

        Returns
        -------
        list of PartReport
            By file and part.
        dict of int to int
            For each file with repeated ids, how many of its rows have one.
        """
        from pyspark.sql import functions

        if not tasks:
            return [], {}
        # The default of 200 costs more than it saves where a few megabytes of ids come together.
        self._session.conf.set(_SHUFFLE, str(min(len(tasks), _MOST_SHUFFLED)))
        sent = self._session.sparkContext.broadcast(shipment)
        rows = self._spread(tasks).mapInArrow(partial(_score, sent, new_count), _SCORED)
        # Reports pass through the same shuffle as the ids: one pass over the rows is enough,
        # and a report that comes out of it belongs to a part that was written as a whole.
        counted = (
            rows.groupBy("file", "name", "report")
            .agg(functions.count("*").alias("many"))
            .where("name is null or many > 1")
            .groupBy("file", "report")
            .agg(functions.sum("many").alias("many"))
        )
        reports, repeated = [], {}
        for row in self._collected(counted):
            if row.report is None:
                repeated[row.file] = row.many
            else:
                reports.append(msgspec.json.decode(row.report, type=PartReport))
        return sorted(reports, key=lambda report: (report.file, report.part)), repeated

    def _spread(self, tasks: Sequence[msgspec.Struct]) -> Any:
        """One row and one partition for each task."""
        rows = [(msgspec.json.encode(task),) for task in tasks]
        spread = self._session.sparkContext.parallelize(rows, len(rows))
        return self._session.createDataFrame(spread, "task binary")

    def _collected(self, frame: Any) -> list[Any]:
        try:
            rows: list[Any] = frame.collect()
        except Exception as error:
            raise _gave_up("The Spark job failed", error) from error
        return rows


def _scan(sent: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for data in _tasks(batches):
        found = scan_file(msgspec.json.decode(data, type=FileTask), sent.value)
        yield pa.record_batch({"report": pa.array([msgspec.json.encode(found)], pa.binary())})


def _score(
    sent: Any, new_count: Callable[[], Count], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for data in _tasks(batches):
        task = msgspec.json.decode(data, type=PartTask)
        for told in score_part(task, sent.value, new_count):
            names: list[str | None] = [None]
            report = None
            if isinstance(told, PartReport):
                report = msgspec.json.encode(told)
            else:
                names = [*told]
            yield pa.record_batch(
                {
                    "file": pa.array([task.file] * len(names), pa.int32()),
                    "name": pa.array(names, pa.string()),
                    "report": pa.array([report] * len(names), pa.binary()),
                }
            )


def _tasks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    for batch in batches:
        yield from batch.column("task").to_pylist()


def _gave_up(what: str, error: Exception) -> TransientError:
    # Spark repeats itself with the stack of every machine: the first line says it.
    words = str(error).strip().splitlines() or [type(error).__name__]
    return TransientError(
        f"{what}: {words[0][:_SHOWN]}.", "The log of this process and Spark's pages say more."
    )
