"""Parses a batch, in JSON or CSV, into rows; each row is a sample or has defects."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bc_pipeline.errors import Defect, counted
from bc_pipeline.labels import Labels
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.request_parsing.body_stream import RECORD_LIMIT
from bc_pipeline.serving.request_parsing.csv_upload import read_rows
from bc_pipeline.serving.request_parsing.defects import mismatch_at
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.request_parsing.json_members import BYTE_ORDER_MARK
from bc_pipeline.serving.request_parsing.record import RecordParser, RefusedRecord
from bc_pipeline.serving.request_parsing.rows import parse_values, require_value_count
from bc_pipeline.tables.blocks import Block

JSON_ROWS = 10_000
CSV_ROWS = 100_000
# Defects of a JSON list after which the remaining rows are not parsed: finding defects takes
# much longer than predicting.
MAX_DEFECTS = 2_000
_REPEATED_ID = Defect("stands for several rows of the batch", column=ID_COLUMN)
_LIST = re.compile(rb"[ \t\r\n]*\[")
_raw = msgspec.json.Decoder(list[msgspec.Raw])


# Line or number of a row, and the result of parsing it.
Row = tuple[int, Sample | RefusedRecord]


def fast_json_rows(parser: RecordParser, body: bytes, limit: int) -> list[Row] | None:
    """Rows of a JSON list of one form, if all are certainly valid and at most `limit`.

    None leaves the list to `json_rows`, which takes ten times as long.
    """
    samples = parser.fast.parse_list(body)
    if samples is None or len(samples) > limit:
        return None
    numbered = enumerate(samples, start=1)
    repeated = _repeated(sample.id for sample in samples)
    if not repeated:
        return list(numbered)
    return [(number, _refuse_repeated(sample, repeated)) for number, sample in numbered]


def json_rows(parser: RecordParser, body: bytes) -> Iterator[Row]:
    """Rows of a JSON list; a record may have any form that a single one may have.

    Of rows with one id none is answered: which of them is meant cannot be known.

    Raises
    ------
    BodyUnreadable, BodyTooLarge
    SchemaMismatch
        Where it is no list, or a list with no records or too many.
    """
    require_value_count(body.count(b","))
    # Until the client has read the answer, only the numbers of the body stay in memory.
    values = array("d")
    rows: list[tuple[int, str | RefusedRecord | None]] = []
    for number, row in _parse_items(parser, _items(body)):
        if isinstance(row, Sample):
            values.extend(row.values)
            rows.append((number, row.id))
        else:
            rows.append((number, row))
    return _unpack(values, parser.width, rows)


def _unpack(
    values: array[float], width: int, rows: Sequence[tuple[int, str | RefusedRecord | None]]
) -> Iterator[Row]:
    start = 0
    repeated = _repeated(row.id if isinstance(row, RefusedRecord) else row for _, row in rows)
    for number, row in rows:
        if isinstance(row, RefusedRecord):
            yield number, _refuse_repeated(row, repeated)
        else:
            sample = Sample(tuple(values[start : start + width]), row)
            yield number, _refuse_repeated(sample, repeated)
            start += width


def _repeated(ids: Iterable[str | None]) -> frozenset[str | None]:
    """The ids that several rows have, accepted or refused."""
    counts = Counter(ids)
    del counts[None]
    if len(counts) == counts.total():
        return frozenset()
    return frozenset(sample_id for sample_id, count in counts.items() if count > 1)


def _refuse_repeated(
    row: Sample | RefusedRecord, repeated: frozenset[str | None]
) -> Sample | RefusedRecord:
    """The row, with one defect more if its id is repeated."""
    if row.id not in repeated:
        return row
    defects = row.defects if isinstance(row, RefusedRecord) else ()
    return RefusedRecord([*defects, _REPEATED_ID], row.id)


def _items(body: bytes) -> Sequence[Any]:
    """Records of a list: undecoded where the list is valid JSON, parsed otherwise."""
    content: Sequence[Any]
    body = body.removeprefix(BYTE_ORDER_MARK)
    if len(body) > RECORD_LIMIT and not _LIST.match(body):
        # Parsing it would take many times its size in memory.
        raise mismatch_at(None, "the body must be a JSON list of records")
    try:
        content = _raw.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        # Invalid, or valid only for a parser that allows NaN.
        parsed = parse_values(body)
        if not isinstance(parsed, list):
            raise mismatch_at(None, "the body must be a JSON list of records") from None
        content = parsed
    if not 0 < len(content) <= JSON_ROWS:
        raise mismatch_at(
            None, f"holds {counted(len(content), 'record')}; 1 to {JSON_ROWS} are taken"
        )
    return content


def _parse_items(parser: RecordParser, items: Sequence[Any]) -> Iterator[Row]:
    defect_count = 0
    unparsed: RefusedRecord | None = None
    for number, item in enumerate(items, start=1):
        if defect_count >= MAX_DEFECTS:
            unparsed = unparsed or RefusedRecord(
                [Defect(f"was not read: the rows before it have {defect_count} defects")]
            )
            yield number, unparsed
            continue
        row = _parse_item(parser, item)
        if isinstance(row, RefusedRecord):
            defect_count += len(row.defects)
        yield number, row


def _parse_item(parser: RecordParser, item: Any) -> Sample | RefusedRecord:
    if not isinstance(item, msgspec.Raw):
        return parser.check(item)
    if len(item) > RECORD_LIMIT:
        return RefusedRecord([Defect(f"a record may hold {RECORD_LIMIT} bytes")])
    return parser.parse(bytes(item))


def read_csv(path: Path, schema: FeatureSchema, labels: Labels) -> list[Block]:
    """All rows of a CSV; a column of labels is ignored.

    Raises
    ------
    FileRefused, SchemaMismatch
        For defects of the file as a whole, before any row is answered.
    """
    return list(read_rows(path, schema, labels, row_limit=CSV_ROWS))


def csv_rows(blocks: Sequence[Block]) -> Iterator[Row]:
    """Rows of blocks; of rows with one id none is answered."""
    repeated = _repeated(sample_id for block in blocks for sample_id in block.ids)
    for block in blocks:
        for index, line in enumerate(block.lines.tolist()):
            defects, identifier = block.defects.get(index), block.ids[index]
            row: Sample | RefusedRecord
            if defects:
                row = RefusedRecord(defects, identifier)
            else:
                row = Sample(tuple(block.values[index].tolist()), identifier)
            row = _refuse_repeated(row, repeated)
            if isinstance(row, RefusedRecord) and defects:
                unread = any(defect.column == ID_COLUMN for defect in defects)
                row = row._replace(id=None) if unread else row
            yield line, row
