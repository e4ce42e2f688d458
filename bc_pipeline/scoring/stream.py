"""Batch scoring on one machine: a table of any size in, its scores out, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import structlog

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import sha256_file, staged_file
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.errors import ConfigError, ModelError, RowsRejected, SchemaMismatch
from bc_pipeline.schema import FeatureSchema, Labels, row_key
from bc_pipeline.tables import (
    BLOCK_BYTES,
    Block,
    Kind,
    Layout,
    Openable,
    TableReader,
    TableWriter,
    open_table,
    open_writer,
)

Progress = Callable[[int, int, int], None]
"""Called as ``progress(rows_done, bytes_done, bytes_total)`` after each block."""

Validate = Callable[[Sequence[str], np.ndarray], None]
"""Called as ``validate(names, values)`` with the accepted rows, in portions of `PORTION_ROWS`.

A row's name is its id or, where it has none, its line.
"""

# What a suite costs is mostly per call; what it holds while it runs grows with the rows.
PORTION_ROWS = 30_000
_REASONS_TOLD = 3


class ScoreReport(Record, frozen=True, kw_only=True):
    """What one run of batch scoring did; the same for the same inputs.

    Attributes
    ----------
    read, scored, rejected : int
        Rows; ``read`` is the sum of the other two.
    positive : int
        Rows called positive.
    version : str
        Of the model.
    source_sha256, output_sha256 : str
        Of the bytes that were read and written.
    rejected_file : str or None
        Table of every defect of the rejected rows; None where no row was rejected.
    """

    read: int
    scored: int
    rejected: int
    positive: int
    version: str
    dialect: str
    source: str
    source_sha256: str
    output: str
    output_sha256: str
    rejected_file: str | None


def score_file(
    predictor: Predictor,
    schema: FeatureSchema,
    labels: Labels,
    source: Openable,
    target: Path,
    *,
    progress: Progress | None = None,
    validate: Validate | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> ScoreReport:
    """Score every sound row of a CSV or Parquet file into a file of the same format.

    The output has, per row: ``id`` (the file's, or where it has none `row_key` of the
    values), ``prediction`` (outside code), ``label``, ``probability`` (of that label),
    ``probability_<positive>`` and ``model_version``. Rows with defects go, one line per
    defect, to ``<target stem>.rejected.csv``. Both files appear whole, or not at all; an
    earlier output stays as it was until then.

    Parameters
    ----------
    source : Path or Place
        A label column in it is ignored.
    progress, validate : callable or None
        What they raise ends the run.
    block_bytes : int
        About how much of the file is held at a time.

    Raises
    ------
    FileRefused, SchemaMismatch
        As of `open_table`; also where the model takes other features than the schema's.
    RowsRejected
        Where no row at all could be scored.
    ModelError
        Where the model answers with anything but one probability per row.
    ConfigError
        Where the target is the source, or is named as another format.
    """
    with open_table(source, schema, labels, read_labels=False, block_bytes=block_bytes) as reader:
        _check_target(source, target, _aside(target), _layout(reader))
        return score_table(
            reader, predictor, schema, labels, target, progress=progress, validate=validate
        ).report


@dataclass(frozen=True)
class Scored:
    """What came of a table.

    Attributes
    ----------
    reasons : Counter of str
        How many defects of each kind the rejected rows have, the kinds in order of appearance.
    """

    report: ScoreReport
    reasons: Counter[str]


def score_table(
    reader: TableReader,
    predictor: Predictor,
    schema: FeatureSchema,
    labels: Labels,
    target: Path,
    *,
    progress: Progress | None = None,
    validate: Validate | None = None,
    may_be_empty: bool = False,
) -> Scored:
    """`score_file` of a table that is open, or of a part of one.

    Parameters
    ----------
    may_be_empty : bool
        Whether it is no error that no row at all could be scored.

    Raises
    ------
    FileRefused, SchemaMismatch, RowsRejected, ModelError
    """
    started = perf_counter()
    if predictor.manifest.feature_schema.names != schema.names:
        raise SchemaMismatch(
            f"Model {predictor.manifest.version} takes other features than the schema's.",
            source=predictor.manifest.version,
        )
    aside = _aside(target)
    with ExitStack() as stack:
        # What is staged first is published last: the scores appear when all else is there.
        staged = stack.enter_context(staged_file(target))
        scores = _Scores(predictor, labels)
        with ExitStack() as writers:
            output = writers.enter_context(open_writer(staged, scores.columns, _layout(reader)))
            rejects = _Rejects(aside, stack, writers)
            portions = _Portions(validate)
            for block in reader:
                rejects.add(block)
                accepted = np.flatnonzero(block.accepted)
                values = block.values[accepted]
                ids = _ids(block, accepted)
                portions.add(_names(block, accepted), values)
                output.write(scores.of(ids, values))
                if progress is not None:
                    progress(reader.rows_read, reader.bytes_done, reader.bytes_total)
            portions.finish()
        if not scores.rows and not may_be_empty:
            raise nothing_left(reader.source, rejects.rows, rejects.reasons)
        if not rejects.rows:
            aside.unlink(missing_ok=True)
        output_sha256 = sha256_file(staged)
    report = ScoreReport(
        read=reader.rows_read,
        scored=scores.rows,
        rejected=rejects.rows,
        positive=scores.positive,
        version=predictor.manifest.version,
        dialect=reader.dialect,
        source=reader.source,
        source_sha256=reader.sha256,
        output=target.name,
        output_sha256=output_sha256,
        rejected_file=aside.name if rejects.rows else None,
    )
    structlog.get_logger().info(
        "scored",
        version=report.version,
        source_sha256=report.source_sha256,
        read=report.read,
        scored=report.scored,
        rejected=report.rejected,
        seconds=round(perf_counter() - started, 3),
    )
    return Scored(report, rejects.reasons)


def nothing_left(source: str, rows: int, reasons: Counter[str]) -> RowsRejected:
    """The error of a table none of whose rows could be scored."""
    most = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_REASONS_TOLD))
    return RowsRejected(
        f"None of the {rows} rows of {source} can be scored ({most}).",
        "Check its columns and units.",
        read=rows,
    )


def _layout(reader: TableReader) -> Layout:
    return "parquet" if reader.dialect == "parquet" else "csv"


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.stem}.rejected.csv")


def _check_target(source: Openable, target: Path, aside: Path, layout: Layout) -> None:
    if isinstance(source, Path) and source.resolve() in {target.resolve(), aside.resolve()}:
        raise ConfigError(
            f"The scores of {source.name} would replace it.",
            "Name another output.",
            setting="target",
        )
    suffix = target.suffix.lower()
    if suffix in {".csv", ".parquet"} and suffix != f".{layout}":
        raise ConfigError(
            f"{target.name} would hold {layout}: scores have the format of their input.",
            f"Name it {target.stem}.{layout}.",
            setting="target",
        )


def _ids(block: Block, accepted: np.ndarray) -> list[str]:
    return [block.ids[row] or row_key(block.values[row].tolist()) for row in accepted.tolist()]


def _names(block: Block, accepted: np.ndarray) -> list[str]:
    """What validation calls the rows: two that only look alike are two, not a repeated id."""
    return [
        block.ids[row] or f"line {line}"
        for row, line in zip(accepted.tolist(), block.lines[accepted].tolist(), strict=True)
    ]


@dataclass
class _Portions:
    """Gathers blocks until they are worth a call of `validate`."""

    validate: Validate | None
    names: list[str] = field(default_factory=list)
    blocks: list[np.ndarray] = field(default_factory=list)

    def add(self, names: list[str], values: np.ndarray) -> None:
        if self.validate is None:
            return
        self.names += names
        self.blocks.append(values)
        if len(self.names) >= PORTION_ROWS:
            self.finish()

    def finish(self) -> None:
        if self.validate is not None and self.names:
            self.validate(self.names, np.concatenate(self.blocks))
        self.names, self.blocks = [], []


@dataclass
class _Scores:
    """Turns accepted rows into lines of the output."""

    predictor: Predictor
    labels: Labels
    rows: int = 0
    positive: int = 0

    @property
    def columns(self) -> dict[str, Kind]:
        return {
            "id": "text",
            "prediction": "integer",
            "label": "text",
            "probability": "number",
            f"probability_{self.labels.positive.name}": "number",
            "model_version": "text",
        }

    def of(self, ids: Sequence[str], values: np.ndarray) -> dict[str, Any]:
        probability = self.predictor.positive(values) if len(values) else np.empty(0)
        # NaN compares as false, so it is caught as well.
        if (
            probability.shape != (len(values),)
            or not ((probability >= 0) & (probability <= 1)).all()
        ):
            raise ModelError(
                f"Model {self.predictor.manifest.version} did not answer with one probability "
                "for each row."
            )
        called = self.predictor.calls(probability)
        self.rows += len(values)
        self.positive += int(called.sum())
        names = {call: self.labels.name(call) for call in (True, False)}
        return {
            "id": ids,
            "prediction": np.where(called, self.labels.code(True), self.labels.code(False)),
            "label": [names[call] for call in called.tolist()],
            "probability": np.where(called, probability, 1 - probability),
            f"probability_{self.labels.positive.name}": probability,
            "model_version": [self.predictor.manifest.version] * len(values),
        }


class _Rejects:
    """Writes down what is wrong with the rows that are not scored; no file where none is."""

    columns: ClassVar[dict[str, Kind]] = {
        "line": "integer",
        "id": "text",
        "column": "text",
        "reason": "text",
    }

    def __init__(self, path: Path, published: ExitStack, writers: ExitStack) -> None:
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self._path = path
        self._published = published
        self._writers = writers
        self._writer: TableWriter | None = None

    def add(self, block: Block) -> None:
        if not block.defects:
            return
        if self._writer is None:
            staged = self._published.enter_context(staged_file(self._path))
            self._writer = self._writers.enter_context(open_writer(staged, self.columns, "csv"))
        told = [(row, defect) for row, found in block.defects.items() for defect in found]
        self.rows += len(block.defects)
        self.reasons.update(
            f"{defect.column}: {defect.reason}" if defect.column else defect.reason
            for _, defect in told
        )
        self._writer.write(
            {
                "line": [defect.line for _, defect in told],
                "id": [block.ids[row] for row, _ in told],
                "column": [defect.column for _, defect in told],
                "reason": [defect.reason for _, defect in told],
            }
        )
