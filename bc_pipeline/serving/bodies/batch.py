"""Many records of one request: each row is answered or has its defects, in small portions.

Rows are read in a thread and answered in the loop, a portion at a time, so that a batch never
keeps single records waiting. One model answers the whole batch.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bc_pipeline.errors import Defect, SchemaMismatch
from bc_pipeline.schema import ID_COLUMN, Labels
from bc_pipeline.serving.bodies.body import Sample, parse_json
from bc_pipeline.serving.bodies.plain_json import refusal
from bc_pipeline.serving.bodies.reading import RECORD_LIMIT
from bc_pipeline.serving.bodies.uploads import read_rows
from bc_pipeline.serving.inference.rows import parse_values, require_few
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.predict import Prediction
from bc_pipeline.tables import Block
from bc_pipeline.tables.writer import neutral_cell

JSON_ROWS = 10_000
CSV_ROWS = 100_000
# Of the rows of a JSON list, after which the others are not looked at: to say what is wrong
# takes far longer than to answer.
DEFECTS_READ = 2_000
_PORTION = 200
_LIST = re.compile(rb"[ \t\r\n]*\[")
_raw = msgspec.json.Decoder(list[msgspec.Raw])


class Refused(NamedTuple):
    """A row that is no sample, and its client's name for it where that could be read."""

    defects: Sequence[Defect]
    id: str | None = None


# The place of a row, its line or number, and what came of reading it.
Row = tuple[int, Sample | Refused]


class RowDefect(msgspec.Struct):
    """What is wrong with a row."""

    feature: str | None
    reason: str


class BatchRow(msgspec.Struct, omit_defaults=True):
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


class BatchSummary(msgspec.Struct):
    """The last line of a batch's answer: without it the answer is not complete."""

    rows: int
    answered: int
    refused: int
    model_version: str
    manifest_sha256: str


class BatchEnd(msgspec.Struct):
    """How the last line is told from the others."""

    summary: BatchSummary


def json_rows(live: Live, body: bytes) -> Iterator[Row]:
    """Rows of a JSON list; every record may be in any form that a single one may.

    Raises
    ------
    BodyUnreadable, BodyTooLarge
    SchemaMismatch
        Where it is no list, or holds nothing or too much.
    """
    require_few(body.count(b","))
    # While the answer is read, however slowly, nothing of the body is held but its numbers.
    packed = bytearray()
    places: list[tuple[int, str | Refused | None]] = []
    for place, row in _read_items(live, _items(body)):
        if isinstance(row, Sample):
            packed += live.pack(*row.values)
            places.append((place, row.id))
        else:
            places.append((place, row))
    return _unpacked(packed, len(live.example), places)


def _unpacked(
    packed: bytearray, width: int, places: Sequence[tuple[int, str | Refused | None]]
) -> Iterator[Row]:
    numbers = memoryview(packed).cast("d")
    start = 0
    for place, row in places:
        if isinstance(row, Refused):
            yield place, row
        else:
            yield place, Sample(tuple(numbers[start : start + width]), row)
            start += width


def _items(body: bytes) -> Sequence[Any]:
    content: Sequence[Any]
    if len(body) > RECORD_LIMIT and not _LIST.match(body):
        # Reading what is large and no list would take many times its size for nothing.
        raise refusal([Defect("the body must be a JSON list of records")])
    try:
        content = _raw.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        # Not a list of JSON, or only nearly: the long way tells.
        found = parse_values(body)
        if not isinstance(found, list):
            raise refusal([Defect("the body must be a JSON list of records")]) from None
        content = found
    if not 0 < len(content) <= JSON_ROWS:
        raise refusal([Defect(f"holds {len(content)} records; 1 to {JSON_ROWS} are taken")])
    return content


def _read_items(live: Live, content: Sequence[Any]) -> Iterator[Row]:
    reader, found = live.reader, 0
    late: Refused | None = None
    for number, item in enumerate(content, start=1):
        if found >= DEFECTS_READ:
            late = late or Refused(
                [Defect(f"was not read: the rows before it have {found} defects")]
            )
            yield number, late
            continue
        parsed = item
        if isinstance(item, msgspec.Raw):
            if len(item) > RECORD_LIMIT:
                found += 1
                yield number, Refused([Defect(f"a record may hold {RECORD_LIMIT} bytes")])
                continue
            sample = reader.read_quickly(bytes(item))
            if sample is not None:
                yield number, sample
                continue
            parsed = parse_json(bytes(item))
        try:
            sample = reader.sample(parsed)
        except SchemaMismatch as error:
            found += len(error.defects)
            yield number, Refused(error.defects, reader.id_of(parsed))
        else:
            yield number, sample


def read_csv(live: Live, path: Path) -> list[Block]:
    """All rows of a CSV; a column with the label is passed over.

    Raises
    ------
    FileRefused, SchemaMismatch
        What is wrong with the file as a whole shows here, before anything is answered.
    """
    manifest = live.manifest
    return list(read_rows(path, manifest.feature_schema, manifest.label_set, row_limit=CSV_ROWS))


def csv_rows(blocks: Sequence[Block]) -> Iterator[Row]:
    """Rows of blocks."""
    for block in blocks:
        for index, line in enumerate(block.lines.tolist()):
            defects, identifier = block.defects.get(index), block.ids[index]
            if not defects:
                yield line, Sample(tuple(block.values[index].tolist()), identifier)
            elif any(defect.column == ID_COLUMN for defect in defects):
                yield line, Refused(defects)
            else:
                yield line, Refused(defects, identifier)


def portions(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in lists that are answered at once."""
    while portion := list(islice(rows, _PORTION)):
        yield portion


def split(portion: Sequence[Row]) -> list[Sample]:
    """The sound samples of a portion."""
    return [read for _, read in portion if isinstance(read, Sample)]


def answered(portion: Sequence[Row], predictions: Sequence[Prediction]) -> list[BatchRow]:
    """The portion's rows with their predictions, in the order they came in."""
    given = iter(predictions)
    rows = []
    for place, read in portion:
        row = BatchRow(place, msgspec.UNSET if read.id is None else read.id)
        if isinstance(read, Sample):
            row.prediction = next(given)
        else:
            row.defects = [RowDefect(defect.column, defect.reason) for defect in read.defects]
        rows.append(row)
    return rows


CSV_COLUMNS = (
    "row",
    "id",
    "prediction_id",
    "prediction",
    "label",
    "probability",
    "positive_probability",
    "threshold",
    "model_version",
    "manifest_sha256",
    "warnings",
    "defects",
)
_encoder = msgspec.json.Encoder()


def ndjson(rows: Sequence[BatchRow | BatchEnd]) -> bytes:
    """Rows as lines of JSON."""
    return b"".join(_encoder.encode(row) + b"\n" for row in rows)


def csv_text(rows: Sequence[BatchRow], labels: Labels) -> bytes:
    """Rows as lines of CSV; no cell of text starts a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        found = row.prediction
        identifier = row.id if isinstance(row.id, str) else ""
        if isinstance(found, Prediction):
            warned = "; ".join(f"{notice.feature} {notice.reason}" for notice in found.warnings)
            cells = (
                found.prediction_id,
                str(found.prediction),
                found.label,
                repr(found.probability),
                repr(found.probabilities[labels.positive.name]),
                repr(found.threshold),
                found.model_version,
                found.manifest_sha256,
                warned,
                "",
            )
        else:
            defects = row.defects if isinstance(row.defects, list) else []
            told = "; ".join(f"{d.feature} {d.reason}" if d.feature else d.reason for d in defects)
            cells = ("",) * 9 + (told,)
        writer.writerow([row.row, *(neutral_cell(cell) for cell in (identifier, *cells))])
    return out.getvalue().encode()
