"""Writes the answer to a batch: a line for each row, in JSON or CSV, and a summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import msgspec

from bc_pipeline.labels import Labels
from bc_pipeline.serving.prediction import Prediction
from bc_pipeline.serving.request_parsing.batch import Row
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.tables.writer import neutral_cell, probability_text

CSV_HEADER = (
    "row,id,prediction_id,prediction,label,probability,positive_probability,threshold,"
    "model_version,manifest_sha256,warnings,defects\n"
)
_encoder = msgspec.json.Encoder()


class RowDefect(msgspec.Struct, gc=False):
    """Defects of a row."""

    feature: str | None
    reason: str


class BatchRow(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of a batch's answer.

    Attributes
    ----------
    row : int
        Of JSON its place in the list, from 1; of CSV its line, the header being line 1.
    id : str
        The client's own name for it, where it gave one that could be read.
    prediction : Prediction
        Where the row was sound.
    defects : list of RowDefect
        Where it was not.
    """

    row: int
    id: str | msgspec.UnsetType = msgspec.UNSET
    prediction: Prediction | msgspec.UnsetType = msgspec.UNSET
    defects: list[RowDefect] | msgspec.UnsetType = msgspec.UNSET


class BatchSummary(msgspec.Struct, omit_defaults=True):
    """The last line of a batch's answer: without it the answer is not complete.

    Attributes
    ----------
    notices : list of str
        Columns of a CSV that were passed over; absent where there are none.
    """

    rows: int
    answered: int
    refused: int
    model_version: str
    manifest_sha256: str
    notices: list[str] = []


class BatchEnd(msgspec.Struct):
    """The last line, which alone has the member `summary`."""

    summary: BatchSummary


def answer_rows(rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[BatchRow]:
    """Lines of the answer, in the order of the rows.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of the rows that have no defect.
    """
    remaining = iter(predictions)
    lines = []
    for number, row in rows:
        line = BatchRow(number, msgspec.UNSET if row.id is None else row.id)
        if isinstance(row, Sample):
            line.prediction = next(remaining)
        else:
            line.defects = [RowDefect(defect.column, defect.reason) for defect in row.defects]
        lines.append(line)
    return lines


def ndjson(lines: Sequence[BatchRow | BatchEnd]) -> bytes:
    """Lines of JSON."""
    return _encoder.encode_lines(lines)


def csv_text(lines: Sequence[BatchRow], labels: Labels) -> bytes:
    """Lines of CSV; text that a spreadsheet would take for a formula is escaped."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in lines:
        prediction = line.prediction
        identifier = line.id if isinstance(line.id, str) else ""
        if isinstance(prediction, Prediction):
            cells = (
                prediction.prediction_id,
                str(prediction.prediction),
                prediction.label,
                probability_text(prediction.probability),
                probability_text(prediction.probabilities[labels.positive.name]),
                probability_text(prediction.threshold),
                prediction.model_version,
                prediction.manifest_sha256,
                "; ".join(f"{notice.feature} {notice.reason}" for notice in prediction.warnings),
                "",
            )
        else:
            defects = line.defects if isinstance(line.defects, list) else []
            reasons = [f"{d.feature} {d.reason}" if d.feature else d.reason for d in defects]
            cells = ("",) * 9 + ("; ".join(reasons),)
        writer.writerow([line.row, *(neutral_cell(cell) for cell in (identifier, *cells))])
    return out.getvalue().encode()
