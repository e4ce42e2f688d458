"""Scoring of one table of any size, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import structlog

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_file, staged_file
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.errors import ConfigError, RowsRejected, counted, list_kinds
from bc_pipeline.scoring.batch_plan import source_changed
from bc_pipeline.scoring.read_ahead import read_blocks
from bc_pipeline.scoring.repeated_ids import (
    IdCheck,
    IdsRepeated,
    find_repeated,
    reject_repeated,
)
from bc_pipeline.scoring.row_scoring import RejectsWriter, RowNames, RowScorer, Validate
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.locations import Openable
from bc_pipeline.tables.reader import BLOCK_BYTES, open_table
from bc_pipeline.tables.table_reader import TableReader
from bc_pipeline.tables.writer import Layout, TableWriter

Progress = Callable[[int, int, int], None]
"""Called as ``progress(rows_done, bytes_done, bytes_total)`` after each block."""


class ScoreReport(Document, frozen=True, kw_only=True):
    """Counts and digests of one scored file; the same for the same inputs.

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
    notices : tuple of str
        Columns that were passed over.
    outside_training_range : int
        Scored rows with a value outside the range of the rows that the model was trained on;
        the column of this name lists their features.
    outside_by_feature : dict of str to int
        Number of such values of each feature that has any.
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
    notices: tuple[str, ...] = ()
    outside_training_range: int = 0
    outside_by_feature: dict[str, int] = msgspec.field(default_factory=dict)


def score_file(
    predictor: Predictor,
    source: Openable,
    target: Path,
    *,
    progress: Progress | None = None,
    validate: Validate | None = None,
    start_again: Callable[[], None] = lambda: None,
    conclude: Callable[[str], None] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> ScoreReport:
    """Score every valid row of a CSV or Parquet file into a file of the same format.

    The output has, per row: ``id`` (the file's, or where it has none `row_key` of the
    values), ``prediction`` (outside code), ``label``, ``probability`` (of that label),
    ``probability_<positive>``, ``model_version`` and ``outside_training_range``: the features whose
    value lies outside the range of the rows that the model was trained on. The defects of rejected
    rows are listed in ``<target stem>.rejected.csv``, one per line; rows whose id another row has
    too are among them. Both files appear complete or not at all; until then an earlier output stays
    as it was. Where no row can be scored, the list of defects appears alone.

    Parameters
    ----------
    source : Path or FileLocation
        A label column in it is ignored.
    progress, validate : callable or None
        An error that they raise ends the run.
    start_again : callable
        Called where ids are repeated and the file is read again: `validate` gets all rows anew.
    conclude : callable or None
        Called with the SHA-256 of the file after its last row, before the scores appear. An error
        that it raises ends the run.
    block_bytes : int
        About how much of the file is in memory at a time.

    Raises
    ------
    FileRefused, SchemaMismatch
        As of `open_table`; the columns must be those of the model.
    RowsRejected
        Where no row at all could be scored.
    ModelError
        Where the model answers with anything but one probability per row.
    ConfigError
        Where the target is the source, or is named as another format.
    """
    manifest = predictor.manifest
    open_source = partial(
        open_table,
        source,
        manifest.feature_schema,
        manifest.label_set,
        read_labels=False,
        block_bytes=block_bytes,
    )
    score = partial(
        score_table,
        predictor=predictor,
        target=target,
        progress=progress,
        validate=validate,
        conclude=conclude,
        read_ahead=True,
    )
    try:
        with open_source() as reader:
            _check_target(source, target, reader.layout)
            return score(reader, ids=IdCheck())[0]
    except IdsRepeated:
        start_again()
    with open_source() as reader:
        repeated, sha256 = find_repeated(reader), reader.sha256
    with open_source() as reader:
        report, _ = score(reader, repeated=repeated)
    if report.source_sha256 != sha256:
        raise source_changed(reader.source)
    return report


def score_table(
    reader: TableReader,
    predictor: Predictor,
    target: Path,
    *,
    progress: Progress | None = None,
    validate: Validate | None = None,
    conclude: Callable[[str], None] | None = None,
    ids: IdCheck | None = None,
    on_block: Callable[[Block], None] | None = None,
    repeated: np.ndarray | None = None,
    may_be_empty: bool = False,
    read_ahead: bool = False,
) -> tuple[ScoreReport, Counter[str]]:
    """Score an open table, or a part of one, as `score_file` does.

    Parameters
    ----------
    ids : IdCheck, optional
        Ends the run where an id is repeated.
    on_block : callable, optional
        Called with each block as it was read.
    repeated : array of int64, optional
        Hashes of ids whose rows are rejected, sorted.
    may_be_empty : bool
        Whether a table without any valid row is accepted.
    read_ahead : bool
        Whether a thread reads the next block while one is scored.

    Returns
    -------
    ScoreReport
    Counter of str
        Number of defects of each kind in the rejected rows, in order of appearance.

    Raises
    ------
    FileRefused, RowsRejected, ModelError
    IdsRepeated
        Where `ids` is given; nothing was written.
    """
    started = perf_counter()
    scorer = RowScorer(predictor)
    rejected_file = rejected_file_of(target)
    with staged_file(target) as staged, closing(read_blocks(reader, ahead=read_ahead)) as blocks:
        # The rejects are published first: the scores appear with them.
        with RejectsWriter(rejected_file) as rejects:
            with TableWriter(staged, scorer.columns, reader.layout) as output:
                for block in blocks:
                    if ids is not None:
                        ids.add(block)
                    if on_block is not None:
                        on_block(block)
                    if repeated is not None:
                        reject_repeated(block, repeated)
                    rejects.add(block)
                    accepted = np.flatnonzero(block.accepted)
                    values = block.values[accepted] if block.defects else block.values
                    if validate is not None and len(values):
                        validate(RowNames(block, accepted), values)
                    output.write(scorer.score(block, accepted, values))
                    if progress is not None:
                        progress(reader.rows_read, reader.bytes_done, reader.bytes_total)
                if ids is not None:
                    ids.require_unique()
            scorable = bool(scorer.rows) or may_be_empty
            if scorable and conclude is not None:
                conclude(reader.sha256)
        if not scorable:
            raise no_valid_rows(reader.source, rejects.rows, rejects.reasons, rejected_file.name)
        if not rejects.rows:
            rejected_file.unlink(missing_ok=True)
        report = _report(reader, scorer, rejects.rows, target, sha256_file(staged))
    _log_report(report, perf_counter() - started)
    return report, rejects.reasons


def _report(
    reader: TableReader, scorer: RowScorer, rejected: int, target: Path, output_sha256: str
) -> ScoreReport:
    return ScoreReport(
        read=reader.rows_read,
        scored=scorer.rows,
        rejected=rejected,
        positive=scorer.positive,
        version=scorer.version,
        dialect=reader.columns.dialect,
        source=reader.source,
        source_sha256=reader.sha256,
        output=target.name,
        output_sha256=output_sha256,
        rejected_file=rejected_file_of(target).name if rejected else None,
        notices=reader.notices,
        outside_training_range=scorer.range_check.rows,
        outside_by_feature=scorer.range_check.by_feature,
    )


def _log_report(report: ScoreReport, seconds: float) -> None:
    structlog.get_logger().info(
        "scored",
        version=report.version,
        source_sha256=report.source_sha256,
        read=report.read,
        scored=report.scored,
        rejected=report.rejected,
        outside_training_range=report.outside_training_range,
        seconds=round(seconds, 3),
    )


def no_valid_rows(
    source: str, rows: int, reasons: Counter[str], rejected_file: str
) -> RowsRejected:
    """The error for a table without any row that could be scored."""
    return RowsRejected(
        f"No row of {source} can be scored ({counted(rows, 'row')}: {list_kinds(reasons)}).",
        f"Check its columns and units. See {rejected_file}.",
        read=rows,
        rejected_file=rejected_file,
    )


def rejected_file_of(target: Path) -> Path:
    """The table of rejected rows that belongs to a file of scores."""
    return target.with_name(f"{target.stem}.rejected.csv")


def _check_target(source: Openable, target: Path, layout: Layout) -> None:
    outputs = {target.resolve(), rejected_file_of(target).resolve()}
    if isinstance(source, Path) and source.resolve() in outputs:
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
