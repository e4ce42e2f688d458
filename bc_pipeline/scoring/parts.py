"""One part of a batch, scored where it is told to: what a Spark executor does, without Spark.

An executor trusts nothing that it was sent: it checks the signature and the digests of the
model with its own code before it loads it, and that its code is the driver's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec
import numpy as np

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import sha256_bytes, sha256_file
from bc_pipeline.artifacts.predictors import Predictor, load_predictor
from bc_pipeline.artifacts.sealed import MANIFEST, MODEL, SIGNATURE, VersionFiles, open_version
from bc_pipeline.code import code_version
from bc_pipeline.errors import (
    ArtifactCorrupt,
    ConfigError,
    DataError,
    PipelineError,
    TransientError,
)
from bc_pipeline.scoring.stream import score_table
from bc_pipeline.settings import load_settings
from bc_pipeline.tables import (
    Columns,
    Part,
    Place,
    Scan,
    copy_to,
    open_part,
    open_table,
    part_columns,
    scan,
)

_SHIPPED = (MANIFEST, SIGNATURE, MODEL)
# One worker process scores many parts, with one model at a time.
_opened: dict[str, Predictor] = {}


class Count(Protocol):
    """What counts an expectation suite's findings in rows, portion by portion."""

    counts: list[dict[str, Any]]

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Shipment:
    """A model version as it travels: its signed files, and what they must be checked by.

    Attributes
    ----------
    files : dict of str to bytes
        As they stand in the version's folder, the model encrypted where it is so there.
    verify_key : bytes
        PEM; an executor whose ``BC_VERIFY_KEY_FILE`` is set goes by its own.
    code : str
        `code_version` of the side that sends it.
    """

    version: str
    manifest_sha256: str
    files: dict[str, bytes]
    verify_key: bytes
    code: str


class FileTask(Record, frozen=True, kw_only=True):
    """A file to be scanned; `file` is its number in the batch."""

    file: int
    place: Place
    part_bytes: int


class FileScan(Record, frozen=True, kw_only=True):
    """What a scan told of a file.

    Attributes
    ----------
    columns : Columns or None
        For parts of a CSV file but the first.
    refused : str or None
        Why the file cannot be scored at all.
    failure : dict or None
        The `PipelineError`, as `to_dict` gives it, for which nothing can be scored.
    """

    file: int
    scan: Scan | None = None
    dialect: str = ""
    has_ids: bool = False
    columns: Columns | None = None
    refused: str | None = None
    failure: dict[str, Any] | None = None


class PartTask(Record, frozen=True, kw_only=True):
    """A part to be scored into files below `folder`, a path or URL.

    Attributes
    ----------
    span : Part or None
        None for a Parquet file, which is one part.
    columns : Columns or None
        None for the first part.
    sha256 : str
        Of the bytes that were scanned.
    stem : str
        Of the output's names.
    names : bool
        Whether to tell the ids of the rows.
    """

    file: int
    part: int
    place: Place
    span: Part | None
    columns: Columns | None
    sha256: str
    folder: str
    stem: str
    names: bool


class Written(Record, frozen=True):
    """A file of the output, by its name below the batch's folder; `size` in bytes."""

    name: str
    sha256: str
    size: int


class PartReport(Record, frozen=True, kw_only=True):
    """What came of a part; small, whatever the part's size.

    Attributes
    ----------
    reasons : dict of str to int
        How many defects of each kind, in order of appearance.
    counts : list of dict
        The suite's, one entry for each expectation.
    refused, failure
        As of `FileScan`.
    """

    file: int
    part: int
    read: int = 0
    scored: int = 0
    rejected: int = 0
    positive: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    counts: list[dict[str, Any]] = msgspec.field(default_factory=list)
    scores: Written | None = None
    rejects: Written | None = None
    refused: str | None = None
    failure: dict[str, Any] | None = None


def ship(files: VersionFiles, verify_key: Path) -> Shipment:
    """Pack a version for the executors.

    Raises
    ------
    ArtifactCorrupt
    """
    sealed = {name: (files.folder / name).read_bytes() for name in (MANIFEST, SIGNATURE)}
    return Shipment(
        version=files.manifest.version,
        manifest_sha256=files.manifest_sha256,
        files=sealed | {MODEL: files.stored(MODEL)},
        verify_key=verify_key.read_bytes(),
        code=code_version(),
    )


def open_shipment(shipment: Shipment) -> Predictor:
    """Check and load a version that was sent; once for each worker process.

    Raises
    ------
    ConfigError
        Where this machine runs other code than the sender.
    SignatureInvalid, ArtifactCorrupt, DecryptionFailed, ModelError
    """
    if code_version() != shipment.code:
        raise ConfigError(
            f"The executor runs bc-pipeline {code_version()}, the driver {shipment.code}.",
            "Give both the same release, for example the same image.",
            setting="PYSPARK_PYTHON",
        )
    content = sha256_bytes(b"".join(shipment.files[name] for name in _SHIPPED))
    if content not in _opened:
        settings = load_settings()
        with TemporaryDirectory() as name:
            folder = Path(name) / shipment.version
            folder.mkdir()
            for file in _SHIPPED:
                (folder / file).write_bytes(shipment.files[file])
            key = Path(name) / "verify.pem"
            key.write_bytes(shipment.verify_key)
            files = open_version(
                folder, settings.verify_key_file or key, settings.artifact_cipher()
            )
            if files.manifest_sha256 != shipment.manifest_sha256:
                raise ArtifactCorrupt(
                    f"The manifest of {shipment.version} is not the one that was released."
                )
            predictor = load_predictor(files, settings.threads)
        _opened.clear()
        _opened[content] = predictor
    return _opened[content]


def scan_file(task: FileTask, shipment: Shipment) -> FileScan:
    """Read a file once: its digest, its parts, and whether its columns are the model's."""
    try:
        manifest = open_shipment(shipment).manifest
        found = scan(task.place, task.part_bytes)
        try:
            with open_table(
                task.place, manifest.feature_schema, manifest.label_set, read_labels=False
            ) as reader:
                return FileScan(
                    file=task.file,
                    scan=found,
                    dialect=reader.dialect,
                    has_ids=reader.has_ids,
                    columns=part_columns(reader),
                )
        except DataError as error:
            return FileScan(file=task.file, scan=found, refused=str(error))
    except OSError as error:
        return FileScan(file=task.file, failure=_out_of_reach(task.place, error).to_dict())
    except PipelineError as error:
        return FileScan(file=task.file, failure=error.to_dict())


def score_part(
    task: PartTask, shipment: Shipment, new_count: Callable[[], Count]
) -> Iterator[list[str] | PartReport]:
    """Score a part: gives the ids of its rows in portions, then the report.

    Done again, it writes the same bytes under the same names: a part that two executors
    score, because one of them was lost or slow, stands there once.
    """
    with TemporaryDirectory() as name:
        ids = Path(name) / "ids"
        with ids.open("w", encoding="utf-8") as spool:

            def note(names: Sequence[str]) -> None:
                if task.names:
                    # An id is printable, so it holds no line end.
                    spool.writelines(f"{each}\n" for each in names)

            report = _scored(task, shipment, new_count(), Path(name), note)
        if report.refused is None and report.failure is None:
            with ids.open(encoding="utf-8", newline="\n") as stream:
                while portion := stream.readlines(1 << 20):
                    yield [line[:-1] for line in portion]
        yield report


def _scored(
    task: PartTask,
    shipment: Shipment,
    count: Count,
    work: Path,
    note: Callable[[Sequence[str]], None],
) -> PartReport:
    def validate(names: Sequence[str], values: np.ndarray) -> None:
        count(names, values)
        note(names)

    try:
        predictor = open_shipment(shipment)
        schema, labels = predictor.manifest.feature_schema, predictor.manifest.label_set
        with ExitStack() as stack:
            reader = stack.enter_context(
                open_table(task.place, schema, labels, read_labels=False)
                if task.span is None
                else open_part(task.place, task.span, task.columns, schema, labels)
            )
            layout = "parquet" if reader.dialect == "parquet" else "csv"
            target = work / f"scores.{layout}"
            scored = score_table(
                reader, predictor, schema, labels, target, validate=validate, may_be_empty=True
            )
        report = scored.report
        if report.source_sha256 != task.sha256:
            return _failed(task, _changed(task.place.name))
        rejects = work / report.rejected_file if report.rejected_file else None
        return PartReport(
            file=task.file,
            part=task.part,
            read=report.read,
            scored=report.scored,
            rejected=report.rejected,
            positive=report.positive,
            reasons=dict(scored.reasons),
            counts=count.counts,
            scores=_written(task, target, "scores") if report.scored else None,
            rejects=_written(task, rejects, "scores.rejected") if rejects else None,
        )
    except DataError as error:
        return PartReport(file=task.file, part=task.part, refused=str(error))
    except PipelineError as error:
        return _failed(task, error)
    except OSError as error:
        return _failed(task, _out_of_reach(task.place, error))


def _written(task: PartTask, path: Path, kind: str) -> Written:
    """Copy a finished file to the batch's folder, under a name that its bytes decide."""
    sha256 = sha256_file(path)
    name = f"{task.stem}.{kind}/part-{task.part:05d}-{sha256[:12]}{path.suffix}"
    size = path.stat().st_size
    copy_to(path, f"{task.folder.rstrip('/')}/{name}")
    return Written(name, sha256, size)


def _failed(task: PartTask, error: PipelineError) -> PartReport:
    return PartReport(file=task.file, part=task.part, failure=error.to_dict())


def _out_of_reach(place: Place, error: OSError) -> TransientError:
    return TransientError(
        f"{place.name} could not be read, or its scores not written, on an executor: "
        f"{error.strerror or error}.",
        "Executors must reach inputs and scores under the same paths or URLs as the driver.",
    )


def _changed(name: str) -> TransientError:
    return TransientError(
        f"{name} changed while it was scored.",
        "Put a file there under a name that starts with a dot, and rename it when it is complete.",
    )
