"""The tasks of a Spark executor: scan a file, score a part of one. Spark is not needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import msgspec
import numpy as np

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.errors import DataError, PipelineError, TransientError
from bc_pipeline.scoring.batch_plan import source_changed
from bc_pipeline.scoring.model_package import ModelPackage, open_model_package
from bc_pipeline.scoring.repeated_ids import hash_ids
from bc_pipeline.scoring.table_scoring import ScoreReport, score_table
from bc_pipeline.settings import Settings
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.columns import Columns
from bc_pipeline.tables.locations import FileLocation, copy_to
from bc_pipeline.tables.parts import FilePart, Scan, scan
from bc_pipeline.tables.reader import open_table

_IDS_BYTES = 1 << 20


class FileTask(Document, frozen=True, kw_only=True):
    """A file to scan; `file` is its number in the batch."""

    file: int
    location: FileLocation
    part_bytes: int


class TaskReport(Document, frozen=True, kw_only=True):
    """Result of a task.

    Attributes
    ----------
    refused : str or None
        Why the file cannot be scored at all.
    failure : dict or None
        A `PipelineError`, as `to_dict` gives it, that ends the batch.
    """

    file: int
    refused: str | None = None
    failure: dict[str, Any] | None = None


class FileScan(TaskReport, frozen=True, kw_only=True):
    """Result of a `FileTask`."""

    scan: Scan | None = None
    columns: Columns | None = None


class PartTask(Document, frozen=True, kw_only=True):
    """A part of a file to score into files below `folder`, a path or URL.

    Attributes
    ----------
    columns : Columns or None
        None for the first part.
    stem : str
        Of the output's names.
    return_ids : bool
        Whether hashes of the rows' ids are returned too, to find repeated ones.
    """

    file: int
    part: int
    location: FileLocation
    span: FilePart
    columns: Columns | None
    folder: str
    stem: str
    return_ids: bool


class OutputFile(Document, frozen=True):
    """A file of the output, by its name below the batch's folder; `size` in bytes."""

    name: str
    sha256: str
    size: int


class PartReport(TaskReport, frozen=True, kw_only=True):
    """Result of a `PartTask`; small, whatever the part's size.

    Attributes
    ----------
    report : ScoreReport or None
        Of the part; None where it was refused or failed.
    reasons : dict of str to int
        Number of defects of each kind, in order of appearance.
    counts : list of dict
        The suite's, one entry for each expectation.
    """

    part: int
    report: ScoreReport | None = None
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    counts: list[dict[str, Any]] = msgspec.field(default_factory=list)
    scores: OutputFile | None = None
    rejects: OutputFile | None = None


def scan_file(settings: Settings, task: FileTask, package: ModelPackage) -> FileScan:
    """Read a file once: its digest, its parts, and whether its columns are the model's."""
    scanned = None
    try:
        manifest = open_model_package(settings, package).manifest
        scanned = scan(task.location, task.part_bytes)
        with open_table(
            task.location, manifest.feature_schema, manifest.label_set, read_labels=False
        ) as reader:
            return FileScan(file=task.file, scan=scanned, columns=reader.columns)
    except (OSError, PipelineError) as error:
        return FileScan(file=task.file, scan=scanned, **_error_fields(task.location, error))


def score_part(
    settings: Settings,
    task: PartTask,
    package: ModelPackage,
    new_counter: Callable[[], SuiteCounter],
    repeated: np.ndarray | None = None,
) -> Iterator[np.ndarray | PartReport]:
    """Score a part: yields hashes of the ids of its rows in portions, then the report.

    The same task writes the same bytes under the same names: a part that two executors
    score, because one was lost or slow, is stored once.

    Parameters
    ----------
    repeated : array of int64, optional
        Hashes of ids whose rows are rejected, sorted.
    """
    with TemporaryDirectory() as name:
        ids = Path(name) / "ids"
        try:
            with ids.open("wb") as spool:
                report = _write_part(
                    settings, task, package, new_counter(), repeated, Path(name), spool
                )
        except (OSError, PipelineError) as error:
            fields = _error_fields(task.location, error)
            report = PartReport(file=task.file, part=task.part, **fields)
        else:
            with ids.open("rb") as stream:
                while data := stream.read(_IDS_BYTES):
                    yield np.frombuffer(data, np.int64)
        yield report


def _write_part(
    settings: Settings,
    task: PartTask,
    package: ModelPackage,
    counter: SuiteCounter,
    repeated: np.ndarray | None,
    folder: Path,
    ids: BinaryIO,
) -> PartReport:
    predictor = open_model_package(settings, package)
    manifest = predictor.manifest

    def write_ids(block: Block) -> None:
        ids.write(hash_ids(block).tobytes())

    with open_table(
        task.location,
        manifest.feature_schema,
        manifest.label_set,
        read_labels=False,
        part=task.span,
        columns=task.columns,
    ) as reader:
        target = folder / f"scores.{reader.layout}"
        report, reasons = score_table(
            reader,
            predictor,
            target,
            validate=counter,
            on_block=write_ids if task.return_ids else None,
            repeated=repeated,
            may_be_empty=True,
        )
    if report.source_sha256 != task.span.sha256:
        raise source_changed(task.location.name)
    rejects = folder / report.rejected_file if report.rejected_file else None
    return PartReport(
        file=task.file,
        part=task.part,
        report=report,
        reasons=dict(reasons),
        counts=counter.counts,
        scores=_copy_output(task, target, "scores") if report.scored else None,
        rejects=_copy_output(task, rejects, "scores.rejected") if rejects else None,
    )


def _copy_output(task: PartTask, path: Path, kind: str) -> OutputFile:
    """Copy a complete file to the batch's folder, under a name with its digest."""
    sha256 = sha256_file(path)
    name = f"{task.stem}.{kind}/part-{task.part:05d}-{sha256[:12]}{path.suffix}"
    size = path.stat().st_size
    copy_to(path, f"{task.folder.rstrip('/')}/{name}")
    return OutputFile(name, sha256, size)


def _error_fields(location: FileLocation, error: OSError | PipelineError) -> dict[str, Any]:
    """The fields of a `TaskReport` for an error."""
    if isinstance(error, DataError):
        return {"refused": str(error)}
    if isinstance(error, OSError):
        error = TransientError(
            f"{location.name} could not be read, or its scores not written, on an executor: "
            f"{error.strerror or error}.",
            "Executors must reach inputs and scores under the same paths or URLs as the driver.",
        )
    return {"failure": error.to_dict()}
